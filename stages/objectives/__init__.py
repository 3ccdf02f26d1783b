"""Objectives: (model, batch, label count) -> loss, losses. One more is one file and one line here.

`loss` is a scalar: the batch's sum divided by the label count of the whole global batch. `losses`,
(at least as many as documents,), are the sums of each packed document, for the log.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from .align import COUNTS, align, align_counts
from .sft import sft

Objective = Callable[
    [Any, dict[str, torch.Tensor], torch.Tensor], tuple[torch.Tensor, torch.Tensor]
]
OBJECTIVES: dict[str, Objective] = {
    "align": align,
    "sft": sft,
}
OF_A_STEP = {"align": {COUNTS: align_counts}}
"""what an objective wants counted over all batches of a step and all ranks, as a tensor by name"""


class Task(nn.Module):
    """A model with its objective as one module, so that engines such as DDP see one forward."""

    def __init__(self, model: nn.Module, objective: str):
        super().__init__()
        self.model, self.objective = model, OBJECTIVES[objective]
        self._of_a_step = OF_A_STEP.get(objective, {})

    def of_a_step(self, batches: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Count over batches what each of them needs to know of all; goes into each of them."""
        return {name: sum((count(self.model, batch) for batch in batches[1:]),
                          count(self.model, batches[0]))
                for name, count in self._of_a_step.items()}  # fmt: skip

    def forward(
        self, batch: dict[str, torch.Tensor], label_count: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.objective(self.model, batch, label_count)
