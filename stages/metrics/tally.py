"""The sums of one step over its micro-batches and all ranks: one exchange, one wait of the host."""

from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from typing import Any

import torch
from accelerate import Accelerator

from data_shards.read.batch import Batch

from ..objectives.base import Loss, Objective
from .flops import Flops
from .names import COUNTS, OF_GROUP

INEXACT = ("flops.", "weight.")


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
        objective: whose losses they are.
        flops: counts the operations of a batch.
        device: where the losses are.
    """

    def __init__(self, groups: list[str], objective: Objective, flops: Flops, device: torch.device):
        self._groups, self._objective, self._flops = groups, objective, flops
        self._dtype = torch.float32 if device.type == "mps" else torch.float64
        self._losses = torch.zeros(len(groups), dtype=self._dtype, device=device)
        self._sums = torch.zeros(len(objective.figures), dtype=self._dtype, device=device)
        self._counts = dict.fromkeys(self._names(), 0.0)
        self.counts: dict[str, float] = {}
        """over all ranks, once `close` was called"""
        self.losses: dict[str, float] = {}
        """group -> mean loss by the weights of its documents, if they have any; likewise"""
        self.figures: dict[str, float] = {}
        """of the objective, each the mean over its count; likewise"""

    def _names(self) -> list[str]:
        of_groups = [f"{group}.{count}" for group in self._groups for count in OF_GROUP]
        weights = [f"weight.{group}" for group in self._groups]
        return [*COUNTS, *(f"flops.{part}" for part in self._flops.parts), *of_groups, *weights]

    def add(self, batch: Batch, loss: Loss) -> None:
        """Add a batch that was run."""
        of, place = batch.documents, {group: n for n, group in enumerate(self._groups)}
        found = Counter({name: batch.counts[name] for name in COUNTS})
        found.update({f"flops.{part}": n for part, n in self._flops.of(batch).items()})
        belongs = torch.zeros(len(self._groups), len(of))
        first = [n == 0 or of.sample[n - 1] != sample for n, sample in enumerate(of.sample)]
        weights = self._objective.weights(of)
        facts = zip(of.sources, of.modalities, of.lengths, of.labels, first, weights, strict=True)
        for document, (source, modality, length, labels, begins, weight) in enumerate(facts):
            for group in (f"source.{source}", f"modality.{modality}"):
                belongs[place[group], document] = 1.0
                counts = dict(zip(OF_GROUP, (int(begins), length, labels), strict=True))
                found.update({f"{group}.{name}": n for name, n in counts.items()})
                found[f"weight.{group}"] += weight
        for name, value in found.items():
            self._counts[name] += value
        # a product, not index_add: on a GPU that adds in another order every time
        belongs = belongs.to(self._losses.device, self._dtype, non_blocking=True)
        self._losses += belongs @ loss.by_document[: len(of)].to(self._dtype)
        for n, name in enumerate(self._objective.figures):
            self._sums[n] += loss.sums[name].detach()

    def close(
        self,
        loss: torch.Tensor,
        norm: torch.Tensor,
        count: torch.Tensor,
        accelerator: Accelerator,
    ) -> tuple[float, float]:
        """Sum over all ranks and wait for the figures.

        Args:
            loss: this rank's; its mean over the ranks is the step's, see `Trainer.update`.
            norm: of the gradient, the same on every rank.
            count: the denominator of the step, likewise.
            accelerator: knows the ranks.

        Returns:
            The step's loss and the norm.
        """
        mine = torch.tensor([*self._counts.values()], dtype=self._dtype)
        mine = mine.to(self._losses.device, non_blocking=True)
        parts = [loss[None], self._losses, self._sums, mine]
        sums: Any = accelerator.reduce(torch.cat(parts), "sum")
        total, *rest, norm_value, whole = torch.cat([sums, norm[None], count[None]]).tolist()
        names, groups = self._objective.figures, len(self._groups)
        last = groups + len(names)
        losses, figures, counts = rest[:groups], rest[groups:last], rest[last:]
        self.figures = {n: v / max(1, whole) for n, v in zip(names, figures, strict=True)}
        self.counts = {
            name: value if name == "audio_seconds" or name.startswith(INEXACT) else round(value)
            for name, value in zip(self._counts, counts, strict=True)
        }
        self.losses = {
            group: value / weight
            for group, value in zip(self._groups, losses, strict=True)
            if (weight := self.counts[f"weight.{group}"])
        }
        return total / accelerator.num_processes, norm_value
