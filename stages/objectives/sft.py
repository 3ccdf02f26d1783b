"""Next-token prediction on assistant turns."""

from typing import Any

import torch

from .base import Loss, Objective, document_sums


class Sft(Objective):
    """The cross-entropy of the labelled tokens, in nats."""

    def __call__(self, model: Any, batch: dict[str, Any], count: torch.Tensor) -> Loss:
        output = model(**batch, num_items_in_batch=count)
        return Loss(output.loss, document_sums(output.token_losses.detach(), batch))
