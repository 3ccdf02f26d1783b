"""Next-token prediction on assistant turns."""

from typing import Any

import torch

from .base import Loss, Objective


class Sft(Objective):
    """The cross-entropy of the labelled tokens, in nats."""

    def __call__(self, model: Any, batch: dict[str, Any], count: torch.Tensor) -> Loss:
        document = (batch["position_ids"][0] == 0).cumsum(0) - 1  # (T,)
        output = model(**batch, num_items_in_batch=count)
        # a label's document, as that of the token before it
        owner = document.index_select(0, batch["label_positions"][0])
        by_document = torch.zeros(len(document), device=document.device)  # as many as tokens
        return Loss(output.loss, by_document.index_add_(0, owner, output.token_losses))
