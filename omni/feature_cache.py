"""Remember what a frozen encoder made of a medium, so that it runs once per image or clip."""

import hashlib
from collections import OrderedDict
from typing import Any

import torch


class FeatureCache:
    """Features in memory by content, least recently used out first.

    A miss is encoded by itself, so its features do not depend on its batch and a resumed run
    computes what an uninterrupted one did. It pays where the data fit into `max_bytes`, and on
    a CPU; otherwise leave it off.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes, self.bytes = max_bytes, 0
        self.hits = self.misses = 0
        self._features: OrderedDict[bytes, torch.Tensor] = OrderedDict()

    def __call__(self, encoder: Any, media: list[torch.Tensor]) -> torch.Tensor:
        """Return what `encoder(*media)` returns, from memory where possible: (N, *grid, D)."""
        found = [self._one(encoder, item) for item in encoder.split(*media)]
        return torch.nn.utils.rnn.pad_sequence(found, batch_first=True)

    def _one(self, encoder: Any, item: tuple[torch.Tensor, ...]) -> torch.Tensor:
        raw = item[0].contiguous().cpu().view(torch.uint8)
        digest = hashlib.blake2b(raw.numpy().data, digest_size=16)
        digest.update(repr([int(length) for length in item[1:]]).encode())
        key = digest.digest()
        if key in self._features:
            self.hits += 1
            self._features.move_to_end(key)
            return self._features[key]
        self.misses += 1
        features = self._features[key] = encoder(*item)[0].clone()
        self.bytes += features.nbytes
        while self.bytes > self.max_bytes and len(self._features) > 1:
            self.bytes -= self._features.popitem(last=False)[1].nbytes
        return features
