"""Next-token prediction on assistant turns."""

import math
from collections.abc import Mapping
from typing import Any

from data_shards.read.batch import Documents
from data_shards.shards.rendering import Rendering
from omni.processing.messages import MessageError

from .base import Loss, Objective, document_sums, split_numbers

WEIGHT = "weight"


class Weighted(Rendering):
    """A conversation whose `meta` may say how much it counts."""

    told = (WEIGHT,)

    def numbers(self, meta: Mapping[str, Any]) -> dict[str, float]:
        if WEIGHT not in meta:
            return {}
        value = meta[WEIGHT]
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise MessageError(f"the weight in its meta is a number above 0, not {value!r}")
        return {WEIGHT: float(value)}


class Sft(Objective):
    """The cross-entropy of the labelled tokens, in nats; a sample counts as often as it weighs."""

    rendering = Weighted()

    def weights(self, documents: Documents) -> list[float]:
        each = documents.numbers or [{}] * len(documents)
        return [n * told.get(WEIGHT, 1.0) for n, told in zip(documents.labels, each, strict=True)]

    def __call__(self, model: Any, batch: dict[str, Any], count: Any) -> Loss:
        batch, numbers = split_numbers(batch, self.rendering.told)
        output = model(**batch, num_items_in_batch=count)
        if not numbers:
            return Loss(output.loss, document_sums(output.token_losses.detach(), batch))
        weights = numbers[WEIGHT][0]
        sums = document_sums(output.token_losses, batch)[: len(weights)] * weights
        total = sums.sum() / count
        if output.aux_loss is not None:
            total = total + output.aux_loss * len(output.token_losses) / count
        return Loss(total, sums.detach())
