"""Next-token prediction on assistant turns."""

from typing import Any

import torch


def sft(
    model: Any, batch: dict[str, torch.Tensor], label_count: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cross-entropy of the labelled tokens divided by `label_count`, and by document."""
    document = (batch["position_ids"][0] == 0).cumsum(0) - 1  # (T,)
    output = model(**batch, num_items_in_batch=label_count)
    owner = document.index_select(0, batch["label_positions"][0])  # a label's: the token before's
    by_document = torch.zeros(len(document), device=document.device)  # at most as many as tokens
    return output.loss, by_document.index_add_(0, owner, output.token_losses)
