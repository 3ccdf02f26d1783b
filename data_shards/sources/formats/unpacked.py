"""Tars as files that can be read anywhere: compressed ones are unpacked, a few at a time."""

import bz2
import gzip
import itertools
import lzma
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import IO, Any

KEPT = 2  # unpacked tars on the disk: samples are made in order
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
CHUNK = 1 << 20
# by the first bytes of a file, whatever it is called
OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
ZSTD = b"\x28\xb5\x2f\xfd"
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


class UnpackError(ValueError):
    """A tar that cannot be unpacked here."""


class OpenTar:
    """A tar as a file; `damage` says why a compressed one ends early."""

    def __init__(self, file: IO[bytes], damage: str = ""):
        self.file, self.damage = file, damage

    def fileno(self) -> int:
        """Return the descriptor; it is closed once nothing holds this object."""
        return self.file.fileno()

    def __del__(self) -> None:
        self.file.close()


class Unpacked:
    """Opens tars for any thread; of compressed ones the last few stay unpacked."""

    def __init__(self) -> None:
        self._kept: dict[Path, OpenTar] = {}
        self._lock = Lock()

    def open(self, tar: Path) -> OpenTar:
        """Return a tar, unpacked into a temporary file that has no name where it has to be.

        Raises:
            UnpackError: it is compressed in a way that cannot be undone here.
        """
        with tar.open("rb") as file:
            head = file.read(6)
        if head.startswith(ZSTD):
            raise UnpackError("is compressed with zstd; unpack it with unzstd")
        opener = next((o for magic, o in OPENERS.items() if head.startswith(magic)), None)
        if opener is None:
            return OpenTar(tar.open("rb"))
        with self._lock:
            if tar not in self._kept:
                while len(self._kept) >= KEPT:
                    self._kept.pop(next(iter(self._kept)))
                self._kept[tar] = _unpack(opener(tar))
            return self._kept[tar]


def _unpack(source: IO[bytes]) -> OpenTar:
    out, damage = tempfile.TemporaryFile(), ""  # noqa: SIM115 - closed with what is returned
    with source:
        try:
            while chunk := source.read1(CHUNK):  # type: ignore[attr-defined]
                out.write(chunk)
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            damage = f"its compression is damaged after {out.tell():,} unpacked bytes: {error}"
    out.flush()
    return OpenTar(out, damage)


def braces(pattern: str) -> list[str]:
    """Expand `{000..010}` and `{a,b}` as a shell does; other braces stay."""
    pieces = re.split(r"(\{[^{}]*\})", pattern)
    return ["".join(choice) for choice in itertools.product(*map(_choices, pieces))]


def _choices(piece: str) -> list[str]:
    return list(_choose(piece[1:-1])) if piece.startswith("{") and piece[-1] == "}" else [piece]


def _choose(inner: str) -> Iterator[str]:
    if found := _RANGE.fullmatch(inner):
        first, last = int(found[1]), int(found[2])
        step = 1 if first <= last else -1
        padded = max(map(len, found.groups())) if inner.startswith("0") or "..0" in inner else 0
        yield from (f"{n:0{padded}d}" for n in range(first, last + step, step))
    elif "," in inner:
        yield from inner.split(",")
    else:
        yield f"{{{inner}}}"
