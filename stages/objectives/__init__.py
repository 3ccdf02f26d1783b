"""Objectives: (model, batch, label count) -> loss, losses. One more is one file and one line here.

`loss` is a scalar: the batch's sum divided by the label count of the whole global batch. `losses`,
(at least as many as documents,), are the sums of each packed document, for the log.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .align import align
from .sft import sft

Objective = Callable[
    [Any, dict[str, torch.Tensor], torch.Tensor], tuple[torch.Tensor, torch.Tensor]
]
OBJECTIVES: dict[str, Objective] = {
    "align": align,
    "sft": sft,
}


class Task(nn.Module):
    """A model with its objective as one module, so that engines such as DDP see one forward."""

    def __init__(self, model: nn.Module, objective: str):
        super().__init__()
        self.model, self.objective = model, OBJECTIVES[objective]

    def forward(
        self, batch: dict[str, torch.Tensor], label_count: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.objective(self.model, batch, label_count)
