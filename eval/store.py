"""Finished (row, condition) results on disk, reused only for the same weights and data."""

import hashlib
import importlib.metadata
import json
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from .scoring import Outcome, Scored


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
    import omni

    code = code_digest(Path(__file__).parent, Path(omni.__path__[0]))
    scorer = importlib.metadata.version("lmms-eval")
    facts = {"code": code, "lmms-eval": scorer, "weights": weights, "data": data, **settings}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def code_digest(*folders: Path) -> str:
    """Digest of the Python sources: a result of older code is never taken for one of this code."""
    # the wording of questions is shared with the training sources
    folders += (Path(str(resources.files("data_shards"))) / "sources",)
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


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
