"""Which token comes next: the most likely, or one drawn with noise that belongs to its row."""

import hashlib
from collections.abc import Sequence

import torch

from .settings import SEEDS, Generation


class Sampler:
    """The last logits processor of a greedy `generate`, which then takes what this one chose.

    A token is drawn by the Gumbel-max trick (Gumbel 1954; Maddison et al., arXiv 1411.0030): the
    largest of log-probability + noise. `generate` itself would draw all rows from one stream of
    random numbers, so that an answer would depend on who else is in its batch. Here each row has a
    stream of its own, which follows from the seed, what is asked and the number of the answer.

    Args:
        generation: `temperature`, `top_p`, `n` and `seed` are heeded here.
        keys: (B,) what tells the prompts apart; each has `n` rows in a row.
        device: of the scores. CPU and GPU draw differently.
        keep: remember which tokens `top_p` left to draw from, for `kept_of`.
    """

    def __init__(
        self,
        generation: Generation,
        keys: Sequence[str],
        device: torch.device,
        keep: bool = False,
    ) -> None:
        from transformers.generation.logits_process import TopPLogitsWarper

        self.temperature = generation.temperature
        self.nucleus = TopPLogitsWarper(generation.top_p) if generation.top_p < 1 else None
        self.streams = [
            torch.Generator(device).manual_seed(_seed(generation.seed, key, number))
            for key in keys if self.temperature
            for number in range(generation.n)
        ]  # fmt: skip
        self.steps: list[torch.Tensor] = []
        self._keeps = keep and self.nucleus is not None and bool(self.temperature)
        self._kept: list[tuple[torch.Tensor, ...]] = []  # of each step: by row, what was left

    def logprobs_of(self, row: int) -> torch.Tensor:
        """(T,) float32, of the token that a row was given at each step so far, on the CPU."""
        return torch.stack(self.steps)[:, row].cpu()

    def kept_of(self, row: int) -> tuple[torch.Tensor, ...]:
        """(T,) of (K,) int32: what a row's tokens were drawn from; () where that was everything."""
        return tuple(step[row] for step in self._kept)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores (B · n, V) whose largest is the token to take."""
        choices = scores
        if self.temperature:
            # the largest becomes 0, so that no temperature is too small
            scores = (scores - scores.amax(-1, keepdim=True)) / self.temperature
            if self.nucleus is not None:
                scores = self.nucleus(input_ids, scores)  # type: ignore[arg-type]
                if self._keeps:
                    rows, ids = (scores > -torch.inf).cpu().nonzero(as_tuple=True)
                    counts = rows.bincount(minlength=len(scores)).tolist()
                    self._kept.append(ids.int().split(counts))
            choices = scores + self._noise(scores.shape[1], scores.device)
        chosen = choices.argmax(-1, keepdim=True)  # (B · n, 1)
        self.steps.append(scores.float().log_softmax(-1).gather(1, chosen)[:, 0])
        return choices

    def _noise(self, count: int, device: torch.device) -> torch.Tensor:
        """(B · n, count) standard Gumbel; float64, in whose tail the unlikely tokens differ."""
        noise = torch.empty(len(self.streams), count, dtype=torch.float64, device=device)
        for row, stream in zip(noise, self.streams, strict=True):
            row.exponential_(generator=stream)
        return -noise.clamp_min(torch.finfo(noise.dtype).tiny).log()


def _seed(seed: int, key: str, number: int) -> int:
    digest = hashlib.sha256(f"{seed}|{number}|{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % SEEDS
