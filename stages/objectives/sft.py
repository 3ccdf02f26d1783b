"""Next-token prediction on assistant turns."""

from typing import Any

import torch


def sft(model: Any, batch: dict[str, torch.Tensor], label_count: torch.Tensor) -> torch.Tensor:
    """Return the summed cross-entropy of the labelled tokens divided by `label_count`."""
    return model(**batch, num_items_in_batch=label_count).loss
