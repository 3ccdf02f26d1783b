"""One conversation as tensors, as the processor makes it."""

from dataclasses import dataclass, field

import torch


class PlaceholderError(ValueError):
    """The number of placeholders differs from the number of features."""


@dataclass
class Encoded:
    """One conversation as tensors: `input_ids` (T,), `labels` (T,), preprocessed media in order.

    `numbers` are what an objective is to know of it besides, by name, such as its weight.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    media: dict[str, list[dict[str, torch.Tensor]]] = field(default_factory=dict)  # by modality
    numbers: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.input_ids.shape[0]
