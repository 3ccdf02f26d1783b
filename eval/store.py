"""Finished (row, condition) results on disk, reused only for the same weights and data."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .scoring import Outcome, Scored

HARNESS = 1  # raise it when the same weights on the same data would be scored differently


@dataclass(frozen=True)
class Store:
    """One folder of results. `key` says what they are results of."""

    folder: Path
    key: str

    def load(self, row: str, condition: str) -> Scored | None:
        """The finished result, or None if there is none, it is unreadable or of another key."""
        try:
            saved = json.loads(self._path(row, condition).read_text(encoding="utf-8"))
            if saved["key"] != self.key:
                return None
            outcomes = [Outcome(**outcome) for outcome in saved["scored"].pop("outcomes")]
            return Scored(outcomes=outcomes, **saved["scored"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, row: str, condition: str, scored: Scored) -> None:
        text = json.dumps({"key": self.key, "scored": scored.to_json()}, ensure_ascii=False)
        write_atomic(self._path(row, condition), text)

    def _path(self, row: str, condition: str) -> Path:
        return self.folder / f"{row}.{condition}.json"


def store_key(weights: str, data: str, **settings: Any) -> str:
    """Digest of everything a stored result depends on."""
    facts = {"harness": HARNESS, "weights": weights, "data": data, **settings}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def weights_fingerprint(model: Any) -> str:
    """Digest of every parameter and buffer, names and dtypes included; about 1 s per GB."""
    import torch

    whole = hashlib.blake2b(digest_size=32)
    for name, tensor in sorted(model.state_dict().items()):
        whole.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        whole.update(flat.numpy().data)
    return whole.hexdigest()


def write_atomic(path: Path, text: str) -> None:
    """Write so that a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
