"""The sums of one step over its micro-batches and all ranks: one exchange, one wait of the host."""

from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from typing import Any

import torch
from accelerate import Accelerator

from .flops import Flops

COUNTS = ("label_tokens", "tokens", "samples", "quarantined", "images", "audio_seconds",
          "positions")  # fmt: skip
"""what is counted of a batch: entries of its meta, see `data_shards.read.meta`"""
OF_GROUP = ("samples", "tokens", "labels")


def groups_of(sources: Iterable[str], modalities: Iterable[str]) -> list[str]:
    """Name what documents are told apart by: every source and every set of modalities."""
    names = sorted(modalities)
    sets = ["+".join(some) for size in range(1, len(names) + 1)
            for some in combinations(names, size)]  # fmt: skip
    return [f"source.{s}" for s in sources] + [f"modality.{m}" for m in ("text", *sets)]


class Tally:
    """What one step adds up: its counts, its operations, and losses by group.

    Args:
        groups: of `groups_of`, the same on every rank.
        flops: counts the operations of a batch.
        device: where the losses are.
    """

    def __init__(self, groups: list[str], flops: Flops, device: torch.device):
        self._groups, self._flops = groups, flops
        self._dtype = torch.float32 if device.type == "mps" else torch.float64
        self._losses = torch.zeros(len(groups), dtype=self._dtype, device=device)
        self._counts = dict.fromkeys(self._names(), 0.0)
        self.counts: dict[str, float] = {}
        """over all ranks, once `close` was called"""
        self.losses: dict[str, float] = {}
        """group -> mean loss of its label tokens, where it has any; likewise"""

    def _names(self) -> list[str]:
        of_groups = [f"{group}.{count}" for group in self._groups for count in OF_GROUP]
        return [*COUNTS, *(f"flops.{part}" for part in self._flops.parts), *of_groups]

    def add(self, batch: dict[str, Any], losses: torch.Tensor) -> None:
        """Add a batch that was run: `losses`, (at least its documents,), are their sums."""
        meta, place = batch["meta"], {group: n for n, group in enumerate(self._groups)}
        found = Counter({name: meta[name] for name in COUNTS})
        found.update({f"flops.{part}": n for part, n in self._flops.of(batch).items()})
        belongs = torch.zeros(len(self._groups), meta["samples"])
        facts = zip(meta["sources"], meta["modalities"], meta["lengths"],
                    meta["document_labels"], strict=True)  # fmt: skip
        for document, (source, modality, length, labels) in enumerate(facts):
            for group in (f"source.{source}", f"modality.{modality}"):
                belongs[place[group], document] = 1.0
                counts = dict(zip(OF_GROUP, (1, length, labels), strict=True))
                found.update({f"{group}.{name}": n for name, n in counts.items()})
        for name, value in found.items():
            self._counts[name] += value
        # a product, not index_add: on a GPU that adds in another order every time
        belongs = belongs.to(self._losses.device, self._dtype, non_blocking=True)
        self._losses += belongs @ losses[: meta["samples"]].to(self._dtype)

    def close(
        self, loss: torch.Tensor, norm: torch.Tensor, accelerator: Accelerator
    ) -> tuple[float, float]:
        """Sum over all ranks and wait for the figures.

        Args:
            loss: this rank's; its mean over the ranks is the step's, see `trainer._step`.
            norm: of the gradient, the same on every rank.
            accelerator: knows the ranks.

        Returns:
            The step's loss and the norm.
        """
        mine = torch.tensor([*self._counts.values()], dtype=self._dtype)
        mine = mine.to(self._losses.device, non_blocking=True)
        sums: Any = accelerator.reduce(torch.cat([loss[None], self._losses, mine]), "sum")
        total, *figures, norm_value = torch.cat([sums, norm[None]]).tolist()
        losses, counts = figures[: len(self._groups)], figures[len(self._groups) :]
        self.counts = {
            name: value if name == "audio_seconds" or name.startswith("flops.") else round(value)
            for name, value in zip(self._counts, counts, strict=True)
        }
        self.losses = {
            group: value / self.counts[f"{group}.labels"]
            for group, value in zip(self._groups, losses, strict=True)
            if self.counts[f"{group}.labels"]
        }
        return total / accelerator.num_processes, norm_value
