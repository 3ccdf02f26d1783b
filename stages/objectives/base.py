"""What every objective is: options, a denominator, and a loss by document."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple, Self

import torch

from omni.entry import EntryError
from omni.nearest import nearest


class Loss(NamedTuple):
    """What a batch costs.

    `total` is a scalar with a gradient: the batch's sum divided by the count of the whole global
    batch. `by_document`, (at least as many as documents,), are the sums of each, for the log.
    """

    total: torch.Tensor
    by_document: torch.Tensor


@dataclass(frozen=True)
class NoOptions:
    """Nothing to choose."""


class Objective:
    """How a model and a batch make a loss. It must not matter how a step is cut into batches."""

    options_class: ClassVar[type] = NoOptions
    """a dataclass of numbers, each with a default"""
    runs_llm: ClassVar[bool] = True

    def __init__(self, options: Any = None):
        self.options = self.options_class() if options is None else options

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Make it with some options.

        Raises:
            EntryError: one is unknown (the nearest is named), or no number.
        """
        known = {field.name: field.type for field in fields(cls.options_class)}
        for name, value in options.items():
            if name not in known:
                raise EntryError(f"{cls.__name__.lower()} takes no {name!r}; "
                                 f"{nearest(name, known)}", name)  # fmt: skip
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise EntryError(f"{name} is a number, not {value!r}", name)
        return cls(cls.options_class(**options))

    def count(self, meta: Mapping[str, Any]) -> int:
        """Return what a batch adds to the denominator; the default: its label tokens."""
        return meta["label_tokens"]

    def step_counts(self, model: Any, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Count what each batch needs to know of the whole step; sums over batches and ranks."""
        return {}

    def __call__(self, model: Any, batch: dict[str, Any], count: torch.Tensor) -> Loss:
        """Return the loss of a batch, of which `step_counts` of the step may be a part.

        Args:
            model: an omni model.
            batch: what `OmniProcessor.pack` returns, on the model's device.
            count: the denominator, of the whole global batch.
        """
        raise NotImplementedError
