"""DPO in which hard prompts count more (GuardReasoner, arXiv 2501.18492)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from data_shards.shards.rendering import Pair
from omni.entry import EntryError
from omni.processing.messages import MessageError

from .dpo import Dpo, DpoOptions

HARDNESS = "hardness"


class Mined(Pair):
    """A pair whose `meta` says how many of the answers to its prompt were right and wrong."""

    told = (HARDNESS,)

    def numbers(self, meta: Mapping[str, Any]) -> dict[str, float]:
        right, wrong = meta.get("k_correct"), meta.get("k_incorrect")
        if not (type(right) is int and type(wrong) is int and min(right, wrong) >= 0):
            raise MessageError(
                "its meta says in k_correct and k_incorrect, whole numbers, how many answers to "
                f"its prompt were right and wrong, and here they are {right!r} and "
                f"{wrong!r}; without them, use objective dpo"
            )
        return {HARDNESS: float(wrong - right)}


@dataclass(frozen=True)
class HsDpoOptions(DpoOptions):
    """As of dpo, and how far the weights of pairs lie apart."""

    gamma: float = 0.2
    """pairs weigh from 1 - gamma to 1 + gamma, linear in k_incorrect - k_correct from the least to
    the largest of the stage's data; below 1"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.gamma < 1:
            raise EntryError(f"gamma is from 0 to below 1, not {self.gamma!r}", "gamma")


class HsDpo(Dpo):
    """DPO with a weight for each pair; without `prepare`, all weigh 1."""

    options_class = HsDpoOptions
    options: HsDpoOptions
    rendering = Mined()
    looks = True
    range = 0.0, 0.0

    def prepare(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Find the least and the largest hardness; what has none is left out when it is read."""
        found = []
        for row in rows:
            try:
                found.append(self.rendering.numbers(row.get("meta") or {})[HARDNESS])
            except MessageError:
                continue
        if found:
            self.range = min(found), max(found)

    def weigh(self, losses: torch.Tensor, numbers: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return losses * alphas(numbers[HARDNESS][:, 0], *self.range, self.options.gamma)


def alphas(hardness: torch.Tensor, low: float, high: float, gamma: float) -> torch.Tensor:
    """Return the weights of pairs, (P,), from their k_incorrect - k_correct; 1 where all agree."""
    if high == low:
        return torch.ones_like(hardness)
    return 1 + gamma * (2 * (hardness - low) / (high - low) - 1)
