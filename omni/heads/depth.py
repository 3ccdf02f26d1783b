"""The audio head: from the LLM's hidden state to a frame's codes, book by book.

The depth transformer of Baichuan-Omni-1.5 (arXiv 2501.15368) as its code has it: what runs along
the residual path is itself normalised, and every depth has a feed-forward net of its own.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..entry import EntryError, check_whole

Cache = list[list[tuple[torch.Tensor, torch.Tensor]]]
"""keys and values (N, heads, size) by layer and depth"""


class DepthLayer(nn.Module):
    """One position after the other: x1 = LN(x); a = attention(x1) + x; r = LN(a); r + FFN(r)."""

    def __init__(self, width: int, size: int, depths: int, shared: bool):
        super().__init__()
        self.heads = width // size
        self.norm1, self.norm2 = nn.RMSNorm(width, 1e-6), nn.RMSNorm(width, 1e-6)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        nets = 1 if shared else depths
        self.up = nn.ParameterList(_weight(2 * width, width) for _ in range(nets))
        self.down = nn.ParameterList(_weight(width, 2 * width) for _ in range(nets))

    def forward(self, x: torch.Tensor, kept: list[Any]) -> torch.Tensor:
        """Run one depth, (N, D), of which `kept` holds those before it, and will hold this."""
        query, key, value = (
            part.unflatten(1, (self.heads, -1)) for part in self.qkv(self.norm1(x)).chunk(3, 1)
        )  # (N, H, size)
        net = min(len(kept), len(self.up) - 1)
        kept.append((key, value))
        keys, values = (torch.stack(part, 2) for part in zip(*kept, strict=True))
        scores = (query[:, :, None] * keys).sum(3) * query.shape[2] ** -0.5  # (N, H, depths)
        mixed = (scores.softmax(2)[..., None] * values).sum(2).flatten(1)
        rest = self.norm2(x + self.out(mixed))
        return rest + F.linear(F.gelu(F.linear(rest, self.up[net])), self.down[net])


class DepthHead(nn.Module):
    """Predicts a frame's codes: that of each book from the hidden state and the books before it.

    Args:
        books: how many codes each book has.
        width: of the LLM's hidden states and of the embeddings of codes.
        layers: of the depth transformer.
        shared: one feed-forward net for all depths, an eighth of its parameters.
        max_frames: that an answer may have where nothing else is said; 12.5 are a second.
    """

    options = ("layers", "shared", "max_frames")

    def __init__(
        self, books: tuple[int, ...], width: int, layers: int = 3, shared: bool = False,
        max_frames: int = 500,
    ):  # fmt: skip
        super().__init__()
        self.max_frames = max_frames
        size = next((n for n in (128, 64, 32) if width % n == 0), width)  # of an attention head
        self.layers = nn.ModuleList(
            DepthLayer(width, size, len(books), shared) for _ in range(layers)
        )
        self.heads = nn.ModuleList(nn.Linear(width, size + 1, bias=False) for size in books)

    @staticmethod
    def check(options: dict[str, Any]) -> None:
        """Refuse options that cannot be; raises EntryError."""
        for key in ("layers", "max_frames"):
            check_whole(key, options.get(key, 1))
        if not isinstance(options.get("shared", False), bool):
            raise EntryError(f"shared is true or false, not {options['shared']!r}", "shared")

    def start(self) -> Cache:
        """Return an empty cache over depth."""
        return [[] for _ in self.layers]

    def step(self, x: torch.Tensor, cache: Cache) -> torch.Tensor:
        """Return the scores (N, codes + 1) of the next book, from what the depth is given.

        Args:
            x: (N, D), the hidden state for the first book, after that the sum of the embeddings
                of all codes so far.
            cache: of the depths before; gains this one.
        """
        depth = len(cache[0])
        for layer, kept in zip(self.layers, cache, strict=True):
            x = layer(x, kept)
        return self.heads[depth](x)

    def forward(self, hidden: torch.Tensor, embedded: torch.Tensor) -> list[torch.Tensor]:
        """Return the scores of every book, each knowing the codes before it.

        Args:
            hidden: (N, D)
            embedded: (N, d, D), embeddings of the codes of the first d books, at least all but
                the last; fewer give the scores of d + 1 books.
        """
        cache, total = self.start(), torch.zeros_like(hidden)
        scores = [self.step(hidden, cache)]
        for code in embedded[:, : len(self.heads) - 1].unbind(1):
            total = total + code  # in the order in which sampling adds them up
            scores.append(self.step(total, cache))
        return scores


def _weight(out: int, width: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(out, width) * width**-0.5)
