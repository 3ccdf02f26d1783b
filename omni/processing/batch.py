"""Encoded conversations -> one batch: a packed row to train on, padded rows to generate from."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..encoders import encoder_class, tensor_names
from ..model.encoded import Encoded, join_by_label
from ..model.head import IGNORE_INDEX, find_labels
from ..projectors import item_lengths


class Batches:
    """A processor that joins what it encoded."""

    if TYPE_CHECKING:
        modalities: dict[str, Any]
        _batch: Any

    def pack(self, samples: list[Encoded]) -> dict[str, torch.Tensor]:
        """Join samples into one padding-free row for training.

        Returns `input_ids`, `labels`, `position_ids` (1, T), positions restarting with every
        sample, and the media tensors of all samples in order. There is no attention mask:
        transformers isolates packed documents by their positions only when none is given.
        `label_positions` (1, N) and, by modality, `NAME_positions` (1, M) say where the model needs
        a label's logits and where it puts features: found here, the host need not synchronise with
        a GPU. Their first dimension is the row's: who cuts a batch into rows keeps them whole.
        So it is with `numbers` of the samples, (1, n) each by its name, 1 where one has none, and
        with what they have `by_label`: (1, N), or, of tensors of any length, (1, S) of all of them
        and `NAME_of` (1, S), the label that each value is of.

        What several samples show, as one object, is encoded once: then `NAME_features` (1, M)
        says which of the features goes to each placeholder.
        """
        labels = [s.labels.clone() for s in samples]
        for label in labels:
            label[0] = IGNORE_INDEX  # the token before it belongs to another document
        ids, label_row = torch.cat([s.input_ids for s in samples]), torch.cat(labels)[None]
        placed = {f"{name}_positions": (ids == config["token_id"]).nonzero()[None, :, 0]
                  for name, config in self.modalities.items()}  # fmt: skip
        return {
            "input_ids": ids[None],
            "labels": label_row,
            "label_positions": find_labels(label_row)[None],
            **placed,
            "position_ids": torch.cat([torch.arange(len(s)) for s in samples])[None],
            **{name: torch.tensor([[s.numbers.get(name, 1.0) for s in samples]])
               for name in {n: None for s in samples for n in s.numbers}},
            **join_by_label(samples),
            **self._collate_media(samples, sharing=True),
        }  # fmt: skip

    def pad(self, samples: list[Encoded]) -> dict[str, torch.Tensor]:
        """Left-pad samples for generation: `input_ids`, `attention_mask` (B, T) and media."""
        return dict(self._batch(samples, {"padding": True, "return_tensors": "pt"}))

    def _collate_media(
        self, samples: list[Encoded], sharing: bool = False
    ) -> dict[str, torch.Tensor]:
        batch: dict[str, torch.Tensor] = {}
        names = tensor_names(self.modalities)
        for name, config in self.modalities.items():
            items = [item for s in samples for item in s.media.get(name, [])]
            once = {id(item): item for item in items}
            if sharing and len(once) < len(items):
                batch[f"{name}_features"] = _places(config, items, once)
                items = [*once.values()]
            if items:
                joined = encoder_class(config["encoder"]).collate(items)
                batch |= {names[name][i]: tensor for i, tensor in joined.items()}
        return batch


def _places(config: dict[str, Any], items: list, once: Mapping[int, Any]) -> torch.Tensor:
    """Return, (1, M), which features belong to each placeholder of items that come repeatedly."""
    lengths = [sum(item_lengths(config, item)) for item in once.values()]
    starts = np.cumsum([0, *lengths])
    rows = {key: torch.arange(*starts[n : n + 2]) for n, key in enumerate(once)}
    return torch.cat([rows[id(item)] for item in items])[None]
