"""Next-token prediction on assistant turns."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from data_shards.read.batch import Documents
from data_shards.shards.rendering import Rendering
from omni.entry import EntryError
from omni.model.head import router_loss, token_losses
from omni.processing.messages import MessageError

from .base import Loss, Objective, document_sums, frozen_copy, split_numbers
from .keep import divergence_from, text_labels

WEIGHT = "weight"


@dataclass(frozen=True)
class SftOptions:
    """What samples without media are for."""

    keep: float = 0.0
    """0: their answers are learnt as those of all others; 1: none of them, the LLM is to answer as
    it did when the stage began, of which a copy is kept; between: so much of the one and so little
    of the other"""

    def __post_init__(self) -> None:
        if not 0 <= self.keep <= 1:
            raise EntryError(f"keep is from 0 to 1, not {self.keep!r}", "keep")


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

    options_class = SftOptions
    options: SftOptions
    rendering = Weighted()
    evaluates_alone = True

    def make_extra(self, model: Any) -> nn.Module | None:
        return frozen_copy(model, text_alone=True) if self.options.keep else None

    def weights(self, documents: Documents) -> list[float]:
        each = documents.numbers or [{}] * len(documents)
        return [n * told.get(WEIGHT, 1.0) for n, told in zip(documents.labels, each, strict=True)]

    def __call__(self, model: Any, batch: dict[str, Any], count: Any) -> Loss:
        batch, numbers = split_numbers(batch, self.rendering.told)
        if self.extra is not None and model.training:  # what is held out is scored as without
            losses, aux_loss = self._kept(model, batch)
        else:
            output = model(**batch, num_items_in_batch=count)
            if not numbers:
                return Loss(output.loss, document_sums(output.token_losses.detach(), batch))
            losses, aux_loss = output.token_losses, output.aux_loss
        sums = document_sums(losses, batch)
        if numbers:
            weights = numbers[WEIGHT][0]
            sums = sums[: len(weights)] * weights
        total = sums.sum() / count
        if aux_loss is not None:
            total = total + aux_loss * len(losses) / count
        return Loss(total, sums.detach())

    def _kept(
        self, model: Any, batch: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return what each label costs, (N,), and what the routers add."""
        text, inputs = text_labels(model, batch), dict(batch)
        labels, where = inputs.pop("labels").flatten(), inputs.pop("label_positions").flatten()
        positions = inputs.pop("position_ids")
        embeds = model.embed(inputs.pop("input_ids"), inputs)
        decoded = model.decode(embeds, None, positions, **inputs)
        losses = token_losses(
            model.language_model, decoded, where, labels.index_select(0, where + 1)
        )
        if text.labels.any():
            away = divergence_from(self.extra, model, decoded, batch, text)
            share = torch.where(text.labels, 1 - self.options.keep, 1.0)
            kept = torch.zeros_like(losses).index_put((text.labels,), self.options.keep * away)
            losses = share * losses + kept
        return losses, router_loss(model.language_model, decoded)
