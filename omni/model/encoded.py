"""One conversation as tensors, as the processor makes it."""

from dataclasses import dataclass, field

import torch


class PlaceholderError(ValueError):
    """The number of placeholders differs from the number of features."""


@dataclass
class Encoded:
    """One conversation as tensors: `input_ids` (T,), `labels` (T,), preprocessed media in order."""

    input_ids: torch.Tensor
    labels: torch.Tensor
    media: dict[str, list[dict[str, torch.Tensor]]] = field(default_factory=dict)  # by modality

    def __len__(self) -> int:
        return self.input_ids.shape[0]
