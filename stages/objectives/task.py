"""A model and its objective as one module: what a stage trains."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from . import make_objective
from .base import Loss


class Task(nn.Module):
    """A model with its objective as one module, so that engines such as DDP see one forward.

    Args:
        model: an omni model.
        entry: what a recipe says of the objective.
        start: the model as the stage found it, where that is not `model` as it is now.
        stored: what the objective compares with comes with the batches, so that no frozen module
            is made for it.
        evaluates: it is never trained, so that a frozen module is made only where the objective
            needs one all the same.
    """

    def __init__(
        self, model: nn.Module, entry: Any, start: nn.Module | None = None, stored: bool = False,
        evaluates: bool = False,
    ):  # fmt: skip
        super().__init__()
        self.model, self.objective = model, make_objective(entry)
        alone = stored or (evaluates and self.objective.evaluates_alone)
        extra = None if alone else self.objective.make_extra(start or model)
        self.extra = self.objective.extra = extra
        if self.extra is not None:
            self.extra.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Task":
        """Switch the mode of the model alone: what it is compared with does not train."""
        self.training = mode
        self.model.train(mode)
        return self

    def step_counts(self, batches: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Count over batches what each of them needs to know of all; goes into each of them."""
        first, *others = [self.objective.step_counts(self.model, batch) for batch in batches]
        return {name: sum((other[name] for other in others), value)
                for name, value in first.items()}  # fmt: skip

    def forward(self, batch: dict[str, torch.Tensor], count: torch.Tensor) -> Loss:
        return self.objective(self.model, batch, count)
