"""Remember what a frozen encoder made of a medium, so that it runs once per image or clip."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..encoders.ragged import Ragged
from .store import FeatureStore


class FeatureCache:
    """Features by content: in memory, least recently used out first, or in files that stay.

    A miss is encoded by itself, so its features do not depend on its batch and a resumed run
    computes what an uninterrupted one did. It pays where the data fit into `max_bytes`, and on
    a CPU; otherwise leave it off.

    Args:
        max_bytes: of features.
        folder: of files; other runs, stages, seeds and ranks that come across the same medium
            with the same encoder read them. Default: memory.

    Raises:
        ValueError: the folder cannot be made.
    """

    def __init__(self, max_bytes: int, folder: Path | str | None = None):
        self.max_bytes, self.folder = max_bytes, Path(folder) if folder else None
        self.hits = self.misses = 0
        self._memory = _Memory(max_bytes)
        self._stores: dict[tuple[Any, ...], FeatureStore] = {}
        if self.folder:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ValueError(f"feature_cache {folder}: cannot be a folder: {error}") from error

    @property
    def held(self) -> int:
        """Return the bytes of features in memory."""
        return self._memory.bytes

    def __call__(self, encoder: Any, media: Sequence[torch.Tensor]) -> Ragged:
        """Return what `encoder(*media)` returns, from the cache where possible.

        The encoder must stay frozen as long as this cache is used with it.
        """
        named = zip(encoder.inputs, media, strict=True)
        example = next(t for name, t in named if name not in encoder.host_inputs)
        kept = self._store(encoder, example) if self.folder else self._memory
        items = encoder.split(encoder.spec, *media)
        return Ragged.join([self._one(encoder, i, kept).to(example.device) for i in items])

    def _one(
        self, encoder: Any, item: tuple[torch.Tensor, ...], kept: "_Memory | FeatureStore"
    ) -> torch.Tensor:
        """Return the features of one item, (*grid, D)."""
        digest = hashlib.blake2b(digest_size=16)
        for tensor in item:
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().cpu().flatten().view(torch.uint8).numpy().data)
        features = kept.get(digest.digest())
        if features is not None:
            self.hits += 1
            return features
        self.misses += 1
        [features] = encoder(*item).items()
        features = features.clone()
        kept.put(digest.digest(), features)
        return features

    def _store(self, encoder: Any, example: torch.Tensor) -> FeatureStore:
        """Open the files of this encoder as it is, run as it is run here."""
        device = example.device.type
        half = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        how = (id(encoder), device, str(example.dtype), str(half))
        if how not in self._stores:
            about = {
                "media": encoder.media, "preprocessing": encoder.spec,
                "weights": weights_hash(encoder), "layout": "an item's own cells",
                "arithmetic": [*how[1:], torch.__version__],
            }  # fmt: skip
            self._stores[how] = FeatureStore(self.folder or Path(), about, self.max_bytes)
        return self._stores[how]


class _Memory:
    """Features by digest; the least recently used go first."""

    def __init__(self, max_bytes: int):
        self.max_bytes, self.bytes = max_bytes, 0
        self.features: OrderedDict[bytes, torch.Tensor] = OrderedDict()

    def get(self, digest: bytes) -> torch.Tensor | None:
        if digest in self.features:
            self.features.move_to_end(digest)
        return self.features.get(digest)

    def put(self, digest: bytes, features: torch.Tensor) -> None:
        self.features[digest] = features
        self.bytes += features.nbytes
        while self.bytes > self.max_bytes and len(self.features) > 1:
            self.bytes -= self.features.popitem(last=False)[1].nbytes


def weights_hash(encoder: torch.nn.Module) -> str:
    """Hash the names, dtypes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    # not state_dict, which would redistribute sharded weights in the middle of a step
    for name, tensor in [*encoder.named_parameters(), *encoder.named_buffers()]:
        raw = tensor.detach().contiguous().cpu().flatten().view(torch.uint8)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(raw.numpy().data)
    return digest.hexdigest()
