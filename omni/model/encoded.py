"""One conversation as tensors, as the processor makes it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch


class PlaceholderError(ValueError):
    """The number of placeholders differs from the number of features."""


@dataclass
class Encoded:
    """One conversation as tensors: `input_ids` (T,), `labels` (T,), preprocessed media in order.

    `numbers` are what an objective is to know of it besides, by name, such as its weight;
    `by_label` what it is to know of each of its N labels: (N,), or N tensors of any length.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    media: dict[str, list[dict[str, torch.Tensor]]] = field(default_factory=dict)  # by modality
    numbers: dict[str, float] = field(default_factory=dict)
    by_label: dict[str, torch.Tensor | list[torch.Tensor]] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.input_ids.shape[0]


def join_by_label(samples: Sequence[Encoded]) -> dict[str, torch.Tensor]:
    """Join what is known of the labels of a packed row, see `OmniProcessor.pack`.

    A sample that knows nothing of a name has no labels, as what fills a row.
    """
    joined: dict[str, torch.Tensor] = {}
    for name in {n: None for s in samples for n in s.by_label}:
        found = [s.by_label[name] for s in samples if name in s.by_label]
        if all(isinstance(values, torch.Tensor) for values in found):
            joined[name] = torch.cat(found)[None]  # type: ignore[arg-type]
            continue
        rows = [row for rows in found for row in rows]
        counts = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        joined[name] = torch.cat([*rows, torch.empty(0, dtype=torch.int32)])[None]
        joined[f"{name}_of"] = torch.arange(len(rows)).repeat_interleave(counts)[None]
    return joined
