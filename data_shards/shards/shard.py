"""One shard: where its samples lie, and what is damaged in it."""

import glob
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .sample import MAX_PARTS
from .tar import scan

Patterns = str | Path | Iterable[str | Path]


class Part(NamedTuple):
    """One file of a sample: byte offset in the shard, bytes, and crc32c where it is known."""

    name: str
    offset: int
    size: int
    crc: int | None = None


class Entry(NamedTuple):
    """Where one sample lies: `span` bytes from `offset`, its first header, hold all its parts."""

    shard: str
    key: str
    offset: int
    span: int
    parts: tuple[Part, ...]

    @property
    def where(self) -> str:
        """Return "shard:key", the name under which a sample is reported."""
        shard = self.shard.partition("?")[0]  # a URL may end in a signature
        return f"{shard.rpartition('/')[2]}:{self.key}"


@dataclass(frozen=True, slots=True)
class Bad:
    """A sample, or a place in a shard, that cannot be used."""

    shard: str
    key: str
    offset: int
    reason: str

    def __str__(self) -> str:
        return f"{self.shard}:{self.key or '?'} at byte {self.offset}: {self.reason}"


class BadSample(ValueError):  # noqa: N818 - reads as what it is: except BadSample
    """A sample that cannot be read; `bad` says which, where and why."""

    def __init__(self, bad: Bad):
        super().__init__(str(bad))
        self.bad = bad


def find_shards(patterns: Patterns) -> list[Path]:
    """Expand glob patterns, files and folders (a folder means its train shards) to sorted paths.

    Raises:
        FileNotFoundError: a pattern that matches nothing; a typo must not shrink a mixture.
    """
    found: set[Path] = set()
    for pattern in [patterns] if isinstance(patterns, str | Path) else patterns:
        text = os.path.expanduser(str(pattern))
        hits = glob.glob(f"{text}/train-*.tar" if os.path.isdir(text) else text, recursive=True)
        if not hits:
            raise FileNotFoundError(
                f"no shard matches {text!r}; build it with `omni-shards build` or mend the name"
            )
        found.update(Path(hit) for hit in hits)
    return sorted(found)


def scan_shard(path: str | Path) -> tuple[list[Entry], list[Bad]]:
    """List the samples of a shard by its headers alone, and what is damaged in it."""
    with mapped(path) as archive:
        return group(path, archive)


@contextmanager
def mapped(path: str | Path | int) -> Iterator[np.ndarray]:
    """Map a file, by its path or as it is open, to memory: (bytes,) uint8, read-only."""
    with open(path, "rb", closefd=not isinstance(path, int)) as file:
        size = os.fstat(file.fileno()).st_size
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        # not closed by hand: arrays may still point into it, and go with it
        yield np.frombuffer(whole, np.uint8)


def group(
    path: str | Path, archive: np.ndarray, conversations: bool = True
) -> tuple[list[Entry], list[Bad]]:
    """Group the files of a mapped shard to samples; what is no whole sample is listed as bad.

    Without `conversations`, samples of other makers need no json part.
    """
    path, shard, found = str(path), Path(path).name, scan(archive)
    bad = [Bad(shard, split(d.name)[0], d.offset, d.reason) for d in found.damage]
    hit, seen = {b.key for b in bad}, set()
    entries: list[Entry] = []
    parts: list[Part] = []
    last, start = "", 0

    def close() -> None:
        if not parts or last in hit:
            return
        if reason := _fault(last, parts, seen, conversations):
            bad.append(Bad(shard, last, start, reason))
        else:
            span = parts[-1].offset + parts[-1].size - start
            entries.append(Entry(path, last, start, span, tuple(parts)))
        seen.add(last)

    rows = zip(found.names, found.starts, found.data, found.sizes, strict=True)
    for name, at, data, size in rows:
        key, part = split(name)
        if not part:
            bad.append(Bad(shard, key, at, f"{name!r} is no KEY.PART name"))
            continue
        if key != last:
            close()
            last, start, parts = key, at, []
        parts.append(Part(part, data, size))
    close()
    if not entries and not bad:
        bad.append(Bad(shard, "", 0, "the shard holds no sample"))
    return entries, bad


def split(name: str) -> tuple[str, str]:
    """Split a file's name at the first dot of its last component, as webdataset does."""
    stem, _, part = name.partition(".")
    if "/" in part:
        folder, _, base = name.rpartition("/")
        stem, _, part = base.partition(".")
        return f"{folder}/{stem}", part if stem else ""
    return stem, "" if stem.endswith("/") else part if stem else ""


def _fault(key: str, parts: list[Part], seen: set[str], conversations: bool) -> str:
    names = {part.name for part in parts}
    if key in seen:
        return "duplicate key: an earlier sample of this shard has the same one"
    if conversations and "json" not in names:
        return "there is no .json part (its header may be damaged)"
    if len(names) < len(parts):
        return "two parts have the same name"
    if len(parts) > MAX_PARTS:
        return f"{len(parts)} parts; the limit is {MAX_PARTS}"
    return ""
