"""Vectors -> codes of several books, each of what those before it left over, and back."""

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

ROUNDS = 10  # of k-means at the start
EVERY = 5  # updates between two looks for dead codes
DEAD = 0.1  # of an equal share: a code used less is restarted
SPLIT = 0.1  # of the way from a code to one of its vectors


class Quantised(NamedTuple):
    """What `ResidualQuantiser.forward` made of n vectors."""

    values: torch.Tensor
    """(n, D): the sums of their codes' vectors, with the gradient of the vectors themselves"""
    codes: torch.Tensor
    """(n, books)"""
    commitment: torch.Tensor
    """(n,): squared distances to what they became, the mean over the books that were kept"""


class Book(nn.Module):
    """One codebook, which follows the moving mean of what is assigned to each of its codes.

    No gradient changes it. It is a parameter so that a recipe's patterns say whether it learns.
    """

    def __init__(self, size: int, width: int, decay: float):
        super().__init__()
        self.decay = decay
        self.vectors = nn.Parameter(torch.randn(size, width))
        self.register_buffer("usage", torch.zeros(size))
        self.register_buffer("total", torch.zeros(size, width))
        # of the step under way, until `learn` is given those of all ranks
        self.register_buffer("seen", torch.zeros(size, width + 1))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    usage: torch.Tensor
    total: torch.Tensor
    seen: torch.Tensor
    updates: torch.Tensor

    def nearest(self, x: torch.Tensor) -> torch.Tensor:
        """Return the code of each vector: (n, D) -> (n,)."""
        vectors = self.vectors.detach().to(x.dtype)
        # |x - v|^2 without |x|^2, which is the same for all codes
        return (vectors.square().sum(1) - 2 * x.detach() @ vectors.T).argmin(1)

    @torch.no_grad()
    def start(self, x: torch.Tensor) -> None:
        """Place the codes by k-means on vectors (n, D), drawn with replacement where too few."""
        x = x.float()
        size = len(self.vectors)
        order = torch.randperm(len(x), device=x.device)
        self.vectors.copy_(x[order.repeat(-(-size // len(x)))[:size]])
        for _ in range(ROUNDS):
            counts, sums = self._sums(x, self.nearest(x))
            used = counts > 0
            self.vectors[used] = sums[used] / counts[used, None]
        counts, sums = self._sums(x, self.nearest(x))
        self.usage.copy_(counts)
        self.total.copy_(sums)

    def _sums(self, x: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # a product, not index_add: on a GPU that adds in another order every time
        belongs = F.one_hot(codes, len(self.vectors)).to(x.dtype)
        return belongs.sum(0), belongs.T @ x

    @torch.no_grad()
    def note(self, x: torch.Tensor, codes: torch.Tensor) -> None:
        """Add vectors and their codes to what was seen in this step."""
        counts, sums = self._sums(x.float(), codes)
        self.seen += torch.cat([counts[:, None], sums], 1)

    @torch.no_grad()
    def learn(self, seen: torch.Tensor) -> None:
        """Move the codes towards the means of what was assigned to them: (size, 1 + D)."""
        self.updates += 1
        if not seen.any():
            return
        self.usage.lerp_(seen[:, 0], 1 - self.decay)
        self.total.lerp_(seen[:, 1:], 1 - self.decay)
        alive = self.usage > 1e-6
        self.vectors[alive] = self.total[alive] / self.usage[alive, None]

    def dead(self) -> torch.Tensor:
        """Tell which codes are used less than `DEAD` of an equal share: (size,)."""
        return self.usage < DEAD * self.usage.mean()

    def entropy(self) -> torch.Tensor:
        """Return how evenly the codes are used, from 0 to 1: a scalar."""
        share = self.usage / self.usage.sum().clamp(min=1e-9)
        return -(share * share.clamp(min=1e-12).log()).sum() / torch.tensor(len(share)).log()

    @torch.no_grad()
    def restart(self, x: torch.Tensor) -> None:
        """Let dead codes share what the codes that most vectors (n, D) belong to have.

        Each is put a little way from one of them towards one of its vectors, which halves its cell
        (Linde, Buzo and Gray 1980). On a vector itself it would be as far from all others as they
        are from one another, further than their mean, and die again.
        """
        places, x = self.dead().nonzero()[:, 0], x.float()
        if not len(places) or not len(x):
            return
        codes = self.nearest(x)
        counts = torch.bincount(codes, minlength=len(self.vectors))
        split = counts.argsort(descending=True, stable=True)[: len(places)]
        split = split[counts[split] > 1]
        places = places[: len(split)]
        drawn = torch.rand(len(x), device=x.device) + 1
        member = ((codes == split[:, None]) * drawn).argmax(1)  # one of each cell, at random
        self.vectors[places] = self.vectors[split].lerp(x[member], SPLIT)
        self.usage[split] /= 2
        self.usage[places] = self.usage[split]
        for one in (split, places):
            self.total[one] = self.vectors[one] * self.usage[one, None]


class ResidualQuantiser(nn.Module):
    """Residual vector quantisation (Zeghidour et al., arXiv 2107.03312), learned by moving means.

    Args:
        books: how many codes each has.
        width: of a vector.
        decay: of the moving means.
    """

    def __init__(self, books: list[int], width: int, decay: float = 0.99):
        super().__init__()
        self.width = width
        self.books: Any = nn.ModuleList(Book(size, width, decay) for size in books)

    @property
    def started(self) -> bool:
        """Whether it has ever seen data."""
        return bool(self.books[0].usage.sum() > 0)

    @property
    def learns(self) -> bool:
        return self.training and self.books[0].vectors.requires_grad

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Return the codes of vectors: (n, D) -> (n, books)."""
        codes = []
        for book in self.books:
            codes.append(book.nearest(x))
            x = x - F.embedding(codes[-1], book.vectors).to(x.dtype)
        return torch.stack(codes, 1)

    def lookup(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the sums of codes' vectors: (n, up to all books) -> (n, D).

        Raises:
            ValueError: a code that its book does not have.
        """
        check_codes(codes, [len(book.vectors) for book in self.books[: codes.shape[1]]])
        pairs = zip(codes.T, self.books, strict=False)
        return torch.stack([F.embedding(c, book.vectors) for c, book in pairs]).sum(0)

    def forward(self, x: torch.Tensor, keep: torch.Tensor) -> Quantised:
        """Quantise vectors (n, D), each with the first `keep` (n,) books alone.

        In training, where its books are trained, it starts them from the first vectors, and notes
        what it sees for `learn`.
        """
        rest, codes, lost = x, [], torch.zeros(len(x), device=x.device)
        values = torch.zeros_like(x)
        starts = self.learns and not self.started and len(x) > 0
        restarts = self.learns and not starts and int(self.books[0].updates) % EVERY == 0
        for number, book in enumerate(self.books):
            kept = keep > number
            if starts:
                book.start(rest.detach())
            elif restarts:
                book.restart(rest.detach()[kept])
            codes.append(book.nearest(rest))
            if self.learns:
                book.note(rest.detach()[kept], codes[-1][kept])
            vectors = F.embedding(codes[-1], book.vectors.detach()).to(x.dtype) * kept[:, None]
            lost = lost + (rest - vectors).square().mean(1) * kept
            values, rest = values + vectors, rest - vectors
        return Quantised(x + (values - x).detach(), torch.stack(codes, 1), lost / keep.clamp(min=1))

    def take_seen(self) -> torch.Tensor:
        """Return what was noted since the last call, flat, and forget it: to be summed."""
        seen = torch.cat([book.seen.flatten() for book in self.books])
        for book in self.books:
            book.seen.zero_()
        return seen

    def learn(self, seen: torch.Tensor) -> None:
        """Move all books by what `take_seen` returned, summed over batches and ranks."""
        sizes = [book.seen.numel() for book in self.books]
        for book, part in zip(self.books, seen.split(sizes), strict=True):
            book.learn(part.view_as(book.seen))


def check_codes(codes: torch.Tensor, sizes: list[int]) -> None:
    """Refuse codes (n, books) that are none of their book, which has 0 to size - 1.

    Raises:
        ValueError: names the first of them.
    """
    if codes.shape[1] > len(sizes) or codes.is_floating_point():
        raise ValueError(f"codes are whole numbers (n, {len(sizes)}), not {tuple(codes.shape)} of "
                         f"{codes.dtype}")  # fmt: skip
    limits = torch.tensor(sizes[: codes.shape[1]], device=codes.device)
    wrong = ((codes < 0) | (codes >= limits)).nonzero()
    if len(wrong):
        frame, book = wrong[0].tolist()
        raise ValueError(
            f"frame {frame}: book {book} has the codes 0 to {sizes[book] - 1}, not "
            f"{int(codes[frame, book])}"
        )
