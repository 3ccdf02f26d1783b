"""Objectives: (model, batch, label count) -> loss. Adding one is one file and one line here."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .align import align
from .sft import sft

OBJECTIVES: dict[str, Callable[[Any, dict[str, torch.Tensor], torch.Tensor], torch.Tensor]] = {
    "align": align,
    "sft": sft,
}


class Task(nn.Module):
    """A model with its objective as one module, so that engines such as DDP see one forward."""

    def __init__(self, model: nn.Module, objective: str):
        super().__init__()
        self.model, self.objective = model, OBJECTIVES[objective]

    def forward(self, batch: dict[str, torch.Tensor], label_count: torch.Tensor) -> torch.Tensor:
        return self.objective(self.model, batch, label_count)
