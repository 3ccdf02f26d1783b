"""Packing must change nothing: losses and gradients of a row and of its samples one by one."""

from typing import Any, NamedTuple

import torch

from omni.model.forward import trains
from omni.processing.processor import IGNORE_INDEX, Encoded

from ..objectives.task import Task

TOLERANCE = 1e-5
ROUNDING = 1e-3  # of a deep model in float32, where there is no float64 to tell it from a leak


class Comparison(NamedTuple):
    """Losses per label, and `gradient_difference` with its parameter."""

    packed: float
    alone: float
    difference: float
    parameter: str
    dtype: torch.dtype = torch.float32
    tolerance: float = TOLERANCE

    @property
    def ok(self) -> bool:
        """Tell whether packing changed nothing but the rounding."""
        loss = abs(self.packed - self.alone) / max(1.0, abs(self.alone))
        return loss <= self.tolerance and self.difference <= self.tolerance  # NaN is not


def packed_equals_unpacked(
    model: Any,
    processor: Any,
    encoded: list[Encoded],
    pack: Any = None,
    dtype=torch.float32,
    objective: Any = "sft",
) -> Comparison:
    """Compare a packed row with its samples one by one, without dropout.

    Args:
        model: is left in `dtype` and without gradients; what does not train is left out.
        processor: packs.
        encoded: at least two documents with labels, those of a sample one after the other.
        pack: how to join documents to a row; default `processor.pack`.
        objective: what is trained.
        dtype: float32 rounds more than `TOLERANCE` in a deep model; float64 tells that apart.

    Raises:
        ValueError: no document has labels, or nothing trains.
    """
    labels = sum(int((e.labels[1:] != IGNORE_INDEX).sum()) for e in encoded)
    if not labels or not trains(model):
        raise ValueError("nothing to compare: no labels, or nothing trains")
    pack, was_training = pack or processor.pack, model.training
    task = Task(model.to(dtype), objective, evaluates=True).eval()
    config, routed = model.language_model.config, "output_router_logits"
    before = getattr(config, routed, None)
    if before:  # what routers lose is of all tokens of a row together: no sum over documents
        setattr(config, routed, False)
    try:
        packed, together = _gradients(task, [pack(encoded)], labels)
        each = task.objective.rendering.documents_per_sample
        samples = [encoded[n : n + each] for n in range(0, len(encoded), each)]
        alone, apart = _gradients(task, [processor.pack(sample) for sample in samples], labels)
    finally:
        if before:
            setattr(config, routed, before)
        model.train(was_training)
        model.zero_grad()
    largest, where = gradient_difference(together, apart)
    return Comparison(packed, alone, largest, where, dtype, TOLERANCE)


def gradient_difference(
    found: dict[str, torch.Tensor], right: dict[str, torch.Tensor]
) -> tuple[float, str]:
    """Return the largest difference between gradients by parameter, and whose it is.

    It is relative where the parameter's largest gradient in `right` exceeds 1, and infinite where
    one side lacks a parameter.
    """
    if missing := sorted(found.keys() ^ right.keys()):
        return float("inf"), missing[0]
    largest, where = 0.0, ""
    for name, gradient in right.items():
        difference = float((found[name] - gradient).abs().max())
        difference /= max(1.0, float(gradient.abs().max()))
        if not difference <= largest:  # NaN too
            largest, where = difference, name
    return largest, where


def _gradients(
    task: Task, batches: list[dict[str, torch.Tensor]], labels: int
) -> tuple[float, dict[str, torch.Tensor]]:
    model: Any = task.model
    model.zero_grad()
    total, count = 0.0, torch.tensor(float(labels), device=model.device)
    batches = [{k: v.to(model.device) for k, v in batch.items()} for batch in batches]
    counts = task.step_counts(batches)
    for batch in batches:
        loss = task(batch | counts, count).total
        if loss.requires_grad:  # not of a text under `align`
            loss.backward()
        total += float(loss.detach())
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return total, found
