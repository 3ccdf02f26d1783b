"""Find the samples of shards and read any one of them; what is bad is named, never lost."""

import glob
import logging
import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from omni.messages import MessageError

from .sample import MAX_PARTS, Sample, SampleError, parse
from .tar import Damage, Member, scan

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one sample lies: the offset of its first header, parts as (name, offset, size)."""

    shard: str
    key: str
    offset: int
    parts: tuple[tuple[str, int, int], ...]

    @property
    def where(self) -> str:
        """Return "shard:key", the name under which a sample is reported."""
        return f"{Path(self.shard).name}:{self.key}"


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


def find_shards(patterns: str | Path | Iterable[str | Path]) -> list[Path]:
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
    """List the samples of a shard without reading their contents, and what is damaged in it."""
    path, groups, bad = Path(path), [], []
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        archive = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        hit: set[str] = set()
        for found in scan(archive):
            if isinstance(found, Damage):
                key = _split(found.name)[0]
                hit.add(key)
                bad.append(Bad(path.name, key, found.offset, found.reason))
                continue
            key, part = _split(found.name)
            if not part:
                bad.append(Bad(path.name, key, found.header, f"{found.name!r} is no KEY.PART name"))
            elif groups and groups[-1][0] == key:
                groups[-1][1].append((part, found))
            else:
                groups.append((key, [(part, found)]))
        if isinstance(archive, mmap.mmap):
            archive.close()
    entries = _entries(path, [group for group in groups if group[0] not in hit], bad)
    if not entries and not bad:
        bad.append(Bad(path.name, "", 0, "the shard holds no sample"))
    return entries, bad


def _split(name: str) -> tuple[str, str]:
    """Split a member's name at the first dot of its last component, as webdataset does."""
    folder, _, base = name.rpartition("/")
    stem, _, part = base.partition(".")
    return (f"{folder}/{stem}" if folder else stem), part if stem else ""


def _entries(
    path: Path, groups: list[tuple[str, list[tuple[str, Member]]]], bad: list[Bad]
) -> list[Entry]:
    entries: list[Entry] = []
    seen: set[str] = set()
    for key, members in groups:
        names, offset, reason = [part for part, _ in members], members[0][1].header, ""
        if key in seen:
            reason = "duplicate key: an earlier sample of this shard has the same one"
        elif "json" not in names:
            reason = "there is no .json part (its header may be damaged)"
        elif len(set(names)) < len(names):
            reason = "two parts have the same name"
        elif len(names) > MAX_PARTS:
            reason = f"{len(names)} parts; the limit is {MAX_PARTS}"
        seen.add(key)
        if reason:
            bad.append(Bad(path.name, key, offset, reason))
            continue
        parts = tuple((part, member.data, member.size) for part, member in members)
        entries.append(Entry(str(path), key, offset, parts))
    return entries


def read_entry(entry: Entry) -> Sample:
    """Read one sample.

    Raises:
        BadSample: it cannot be read, is no sample, or breaks the message contract.
    """
    try:
        with open(entry.shard, "rb") as file:
            members = {
                name: os.pread(file.fileno(), size, offset) for name, offset, size in entry.parts
            }
        for name, _, size in entry.parts:
            if len(members[name]) < size:
                raise SampleError(f"{name} is cut: the shard shrank since it was scanned")
        split = Path(entry.shard).name.rpartition("-")[0] or "train"
        return parse(entry.key, members, entry.where, split)
    except (SampleError, MessageError, OSError) as error:
        bad = Bad(Path(entry.shard).name, entry.key, entry.offset, str(error))
        raise BadSample(bad) from error


def read_shard(path: str | Path, on_bad: Callable[[Bad], None] | None = None) -> Iterator[Sample]:
    """Yield every intact sample in order; `on_bad` is called with each that is not.

    Without `on_bad` each bad one is logged as a warning, and their number at the end.
    """
    count = 0

    def report(bad: Bad) -> None:
        nonlocal count
        count += 1
        (on_bad or (lambda b: log.warning("skipped %s", b)))(bad)

    entries, damage = scan_shard(path)
    for bad in damage:
        report(bad)
    for entry in entries:
        try:
            yield read_entry(entry)
        except BadSample as error:
            report(error.bad)
    if count and on_bad is None:
        log.warning("%s: %d bad, everything else was read", path, count)
