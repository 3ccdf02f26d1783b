"""Features of one frozen encoder in files: written once, read by any process, this run or later."""

import hashlib
import json
import logging
import math
import os
import struct
import tempfile
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

import numpy as np
import torch

from ..files.atomic import write_json

log = logging.getLogger(__name__)
# content, where in the data file, shape (0: no such dimension), dtype, checksum of all of it
RECORD = struct.Struct("<16sQ4I16sI")
ALIGN = 64  # bytes, so that mapped features can be viewed as their dtype


class FeatureStore:
    """Content -> features, in `root/MEDIA-KEY`; the key is a hash of all that `about` says.

    Every process that writes appends to two files of its own: features to X.data, then a record
    of fixed size to X.index. So writers never meet, a record is there only after its features,
    and what a kill or a power cut left half written fails its length or its checksum and counts
    as absent. Files are mapped, never changed, and may be read while they grow.

    Args:
        root: of the stores of all encoders.
        about: what the features depend on besides the medium; `media` is its kind.
        max_bytes: of all stores in `root`; what is beyond is not stored.
    """

    def __init__(self, root: Path, about: dict[str, Any], max_bytes: int):
        key = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=8)
        self.folder, self.max_bytes = root / f"{about['media']}-{key.hexdigest()}", max_bytes
        self.closed = ""  # why nothing more is stored
        self._records: dict[bytes, tuple[Path, bytes]] = {}  # digest -> data file, record
        self._read: dict[Path, int] = {}  # index file -> bytes of it that were read
        self._maps: dict[Path, np.ndarray] = {}
        self._files: tuple[Path, BinaryIO, BinaryIO] | None = None  # data, index: this process's
        try:
            if not (self.folder / "about.json").is_file():
                self._begin(about)
        except OSError as error:
            self._close(str(error))
        self._refresh()

    def _begin(self, about: dict[str, Any]) -> None:
        """Make the folder, and tell once of stores that were made otherwise."""
        for old in sorted(self.folder.parent.glob(f"{about['media']}-*/about.json")):
            was = json.loads(old.read_text(encoding="utf-8"))
            changed = [name for name in about if was.get(name) != about[name]]
            log.warning(
                "%s: %.0f MB of features of other %s are not used; remove the folder if no run "
                "needs it", old.parent, _bytes(old.parent) / 1e6, " and ".join(changed),
            )  # fmt: skip
        write_json(self.folder / "about.json", about, shared=True)

    def get(self, digest: bytes) -> torch.Tensor | None:
        """Return the features of a medium, mapped, or None; `digest` is 16 bytes."""
        if digest not in self._records:
            self._refresh()  # another process may have stored them
        data, record = self._records.get(digest, (None, b""))
        if data is None:
            return None
        _, offset, *dims, name, check = RECORD.unpack(record)
        shape = [size for size in dims if size]
        dtype = getattr(torch, name.rstrip(b"\0").decode("ascii", "replace"), None)
        if isinstance(dtype, torch.dtype):
            raw = self._map(data, offset, math.prod(shape) * dtype.itemsize)
            if raw is not None and crc32(raw.data, crc32(record[:-4])) == check:
                return torch.from_numpy(raw).view(dtype).view(shape)
        del self._records[digest]  # damaged: encoded and stored again
        return None

    def put(self, digest: bytes, features: torch.Tensor) -> None:
        """Store the features of a medium; where that cannot be, say so once and go on."""
        raw = features.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        if not self.closed and _bytes(self.folder.parent) + len(raw) > self.max_bytes:
            self._close(f"{self.folder.parent} is as large as feature_cache_mb allows")
        if self.closed:
            return
        try:
            path, data, index = self._files = self._files or self._segment()
            dims = [*features.shape, *[0] * (4 - features.ndim)]
            name = str(features.dtype).removeprefix("torch.").encode()
            head = RECORD.pack(digest, data.tell(), *dims, name, 0)[:-4]
            record = head + crc32(raw.data, crc32(head)).to_bytes(4, "little")
            data.write(raw.tobytes() + bytes(-len(raw) % ALIGN))
            data.flush()
            index.write(record)
            index.flush()
        except OSError as error:
            self._close(str(error))
            return
        self._records[digest] = path, record
        self._read[path.with_suffix(".index")] = index.tell()

    def _segment(self) -> tuple[Path, BinaryIO, BinaryIO]:
        number, name = tempfile.mkstemp(suffix=".data", dir=self.folder)
        path = Path(name)
        return path, os.fdopen(number, "wb"), path.with_suffix(".index").open("wb")

    def _close(self, why: str) -> None:
        self.closed = why
        log.warning("%s: stores no more features, others are computed every time: %s",
                    self.folder, why)  # fmt: skip

    def _refresh(self) -> None:
        """Read the records that processes have added."""
        for path in self.folder.glob("*.index"):
            known = self._read.get(path, 0)
            whole = path.stat().st_size // RECORD.size * RECORD.size
            if whole > known:
                with path.open("rb") as file:
                    file.seek(known)
                    rows = file.read(whole - known)
                for at in range(0, len(rows), RECORD.size):
                    row = rows[at : at + RECORD.size]
                    self._records[row[:16]] = path.with_suffix(".data"), row
                self._read[path] = whole

    def _map(self, path: Path, offset: int, size: int) -> np.ndarray | None:
        """Return bytes of a data file; None if it does not hold so many (yet)."""
        if offset + size > len(self._maps.get(path, b"")):
            if offset + size > path.stat().st_size:
                return None
            # copy-on-write, since torch wants memory that may be written
            self._maps[path] = np.memmap(path, np.uint8, "c")
        return self._maps[path][offset : offset + size]


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.data"))
