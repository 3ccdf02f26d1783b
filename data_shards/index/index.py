"""The index of a source: any of its samples in one read, and their cost without reading them.

It lies in `.data_shards/` beside the shards: `index.json` lists the shards as they were when
they were scanned, and names a folder of memory-mapped tables, see `rows`. Only that json is ever
replaced, atomically and last, so a reader finds the old tables or the new ones, never a mixture.
Where the folder of the shards cannot be written, the index lies in the cache of this machine.

What it costs for 10^9 samples in shards of 10^4: the tables 176 GB, memory-mapped; token counts
4 GB for each tokenizer, memory-mapped; `index.json` 20 MB, read whole; `Lengths` 12 GB, in memory.
A source that is spread over several folders, or leaves out some train shards of one, is copied to
memory instead; make such a source several ones. docs/data.md says what the rest costs.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from omni.files.atomic import replacing
from omni.files.lock import exclusive
from omni.media.facts import KINDS
from omni.processing.clips import HEARD
from omni.processing.messages import Message, MessageError
from omni.weights import cache_dir

from ..remote.cache import open_shard
from ..remote.files import is_url
from ..shards.rendering import CONVERSATION, Rendering
from ..shards.shard import Bad, BadSample, Entry, Part, Patterns, find_shards, mapped
from .offsets import write_offsets
from .remote import fetch_table, remote_sidecars
from .sidecar import UNKNOWN, Progress, Shard, Sidecar, update, write_table

VIDEO = KINDS.index("video")
_COSTS = {  # kind of file -> what is read of it, and the column of `Lengths` of its features
    "image": [("image", "patches")], "audio": [("audio", "frames")],
    "video": [("video", "patches"), ("track", "frames")],
}  # fmt: skip
_CHUNK = 1 << 20  # samples whose lengths are worked out at once


class Processor(Protocol):
    """What the index asks of a processor: numbers of tokens, without weights or decoding."""

    @property
    def fingerprint(self) -> str: ...
    def text_length(self, messages: list[Message], facts: Mapping[str, Any]) -> int: ...
    def media_lengths(self, kind: str, facts: Any) -> tuple[np.ndarray, np.ndarray]: ...


class Facts(NamedTuple):
    """Each media file that a conversation shows: the sample's row, and columns of `rows.PART`."""

    row: np.ndarray
    part: np.ndarray  # structured


class Lengths(NamedTuple):
    """Costs of samples, (N,) each: LLM tokens with media, image patches, audio frames.

    A sample with 0 tokens cannot be encoded, whatever its files are: its template, a modality
    that is not attached, or a placeholder in its text forbid it. `processor.encode` says which.
    """

    tokens: np.ndarray
    patches: np.ndarray
    frames: np.ndarray


class Index:
    """The samples of a source, numbered by row in the order of its shards.

    Args:
        pieces: runs of shards, (sidecar, first shard, end), in order.
    """

    def __init__(self, pieces: list[tuple[Sidecar, int, int]]):
        self._pieces = pieces
        listed = [(side, shard) for side, a, b in pieces for shard in side.shards[a:b]]
        self.shards = [side.place(shard) for side, shard in listed]
        self.bad = [Bad(*row) for _, shard in listed for row in shard.bad]
        told = json.dumps([(shard.name, shard.digest) for _, shard in listed])
        self.hash = hashlib.sha256(told.encode()).hexdigest()[:16]
        self.starts = np.cumsum([0] + [shard.rows for _, shard in listed])  # first row by shard
        *tables, self.names = _join(pieces)
        # still memory-mapped, but a plain array: np.memmap takes thrice the time for a row
        self.samples, self.parts, self._keys = (np.asarray(table) for table in tables)
        # of a part's columns those of an entry: all 16 take twice the time
        self._places = self.parts[["name", "offset", "size", "crc"]]

    samples: np.ndarray  # (N,) rows.SAMPLE
    parts: np.ndarray  # rows.PART
    names: list[str]  # of parts, by parts["name"]

    @classmethod
    def open(cls, patterns: Patterns) -> "Index":
        """Open the index of local or remote shards, see `find_shards` and `remote.find`.

        Local shards that it lacks are scanned now; remote ones need an index beside them.

        Raises:
            FileNotFoundError, RemoteError: a pattern that matches nothing.
            BadSample: the shards hold no intact sample at all; names the first reason.
        """
        given = [patterns] if isinstance(patterns, str | Path) else [*patterns]
        found = [side for url in given if is_url(url) for side in remote_sidecars(str(url))]
        local = [path for path in given if not is_url(path)]
        paths = find_shards(local) if local else []
        for folder, group in groupby(paths, key=lambda path: path.parent):
            mine = list(group)
            found.append((update(folder, mine), [path.name for path in mine]))
        pieces = [
            (side, first, end)
            for side, names in found
            for first, end in _runs(sorted(side.by_name[name] for name in names))
        ]
        index = cls(pieces)
        if not len(index):
            raise BadSample(index.bad[0])
        return index

    def __len__(self) -> int:
        return len(self.samples)

    def key(self, row: int) -> str:
        """Return the key of a sample."""
        _, _, _, at, _, _, _, size = self.samples[row].item()
        return self._key(at, size)

    def _key(self, at: int, size: int) -> str:
        return self._keys[at : at + size].tobytes().decode("utf-8", "surrogateescape")

    def entry(self, row: int) -> Entry:
        """Return where a sample lies."""
        # a row as one tuple: field by field takes thrice the time
        offset, span, first, at, shard, _, count, size = self.samples[row].item()
        parts = [
            Part(self.names[name], start, length, crc)
            for name, start, length, crc in self._places[first : first + count].tolist()
        ]
        return Entry(self.shards[shard], self._key(at, size), offset, span, tuple(parts))

    def kinds(self, row: int) -> set[str]:
        """Return the kinds of media that a sample shows, see `omni.media.facts.KINDS`."""
        first, count = int(self.samples["part"][row]), int(self.samples["parts"][row])
        return {KINDS[kind] for kind in self.parts["kind"][first : first + count].tolist() if kind}

    def first_of_kinds(self) -> dict[str, int]:
        """Return the first row that shows each kind of media that there is."""
        starts = self.samples["part"]
        first, end = int(starts[0]), int(starts[-1]) + int(self.samples["parts"][-1])
        kinds, found = self.parts["kind"][first:end], {}
        for number, kind in enumerate(KINDS[1:], 1):
            at = int((kinds == number).argmax())
            if kinds[at] == number:
                found[kind] = int(np.searchsorted(starts, first + at, side="right")) - 1
        return found

    def sounding(self) -> int:
        """Count the videos with sound that their part does not ask to leave out."""
        number = 0
        for start in range(0, len(self), _CHUNK):
            parts = self.facts(start, start + _CHUNK).part
            has = parts["sound_end"] > parts["sound_start"]
            number += int((has & (parts["sound"] != HEARD[False])).sum())
        return number

    def facts(self, start: int = 0, stop: int | None = None) -> Facts:
        """Return the media files of the samples from row `start` to before `stop`."""
        samples = self.samples[start:stop]
        if not len(samples):
            return Facts(np.zeros(0, np.int64), self.parts[:0])
        end = int(samples["part"][-1]) + int(samples["parts"][-1])
        parts = self.parts[int(samples["part"][0]) : end]
        row = np.repeat(np.arange(start, start + len(samples)), samples["parts"])
        shown = np.flatnonzero(parts["kind"])
        return Facts(row[shown], _take(parts, shown))

    def json_parts(self) -> Iterator[Any]:
        """Yield the json part of each sample, in order; None where it is none."""
        for side, first, end in self._pieces:
            for shard in side.shards[first:end]:
                for data, _ in _json_parts(side, shard):
                    try:
                        yield json.loads(data)
                    except ValueError:
                        yield None

    def text_tokens(self, processor: Processor, rendering: Rendering = CONVERSATION) -> np.ndarray:
        """Return the tokens of all documents of each sample without their media, (N,) uint32.

        0 stands for a sample that the processor cannot encode. Counted once for each tokenizer,
        template and rendering, and kept beside the index.
        """
        counts = [text_tokens(side, processor, side.shards[a:b], rendering)
                  for side, a, b in self._pieces]  # fmt: skip
        return counts[0] if len(counts) == 1 else np.concatenate(counts)

    def lengths(self, processor: Processor, rendering: Rendering = CONVERSATION) -> Lengths:
        """Work out what each sample costs, from facts and the processor's configuration."""
        text, shown = self.text_tokens(processor, rendering), rendering.documents_per_sample
        patches, frames = np.zeros((2, len(self)), np.uint32)
        found = Lengths(np.array(text, np.uint32), patches, frames)
        for start in range(0, len(self), _CHUNK):
            stop = min(start + _CHUNK, len(self))
            facts = self.facts(start, stop)
            usable = text[facts.row] > 0
            kinds = np.ascontiguousarray(facts.part["kind"])
            for kind in np.unique(kinds[usable]):
                mine = np.flatnonzero(usable & (kinds == kind))
                part, row = _take(facts.part, mine), facts.row[mine] - start
                for medium, column in _COSTS[KINDS[kind]]:
                    tokens, features = processor.media_lengths(medium, part)
                    for into, cost in ((found.tokens, tokens), (getattr(found, column), features)):
                        total = np.bincount(row, cost * part["uses"] * shown, stop - start)
                        into[start:stop] += total.astype(np.uint32)
        return found


def build_index(
    folder: str | Path, jobs: int = 1, check: bool = False, progress: Progress | None = None
) -> Sidecar:
    """Index every shard of a folder, and write a `.tar.idx` beside each for Megatron-Energon.

    Args:
        folder: what holds the shards; where it cannot be written, only the index is made.
        jobs: processes that scan.
        check: read every shard again, instead of trusting size and time.
        progress: called with the bytes done and the bytes to do.

    Raises:
        FileNotFoundError: there is no shard.
    """
    folder = Path(folder)
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        raise FileNotFoundError(f"{folder} holds no .tar file")
    side = update(folder, shards, check, jobs, progress)
    if os.access(folder, os.W_OK):
        write_offsets(side)
    return side


def _take(parts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Copy rows of a structured table as plain bytes: ten times quicker than field by field."""
    return parts.view(f"V{parts.itemsize}").take(rows).view(parts.dtype)


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, end) of every run of consecutive numbers."""
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        yield members[0], members[-1] + 1


def _join(
    pieces: list[tuple[Sidecar, int, int]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Return samples, parts, keys and names of the pieces: as they lie if they are one prefix."""
    side, first, end = pieces[0]
    if len(pieces) == 1 and not first:
        rows = sum(shard.rows for shard in side.shards[:end])
        return side.samples[:rows], side.parts, side.keys, side.names
    samples, parts, keys = [], [], []
    names: dict[str, int] = {}
    number = part_at = key_at = 0
    for side, first, end in pieces:
        for shard in side.shards[first:end]:
            rows = side.rows(shard)
            rows.renumber(number, part_at, key_at, names)
            samples.append(rows.samples)
            parts.append(rows.parts)
            keys.append(rows.keys)
            number += 1
            part_at += len(rows.parts)
            key_at += len(rows.keys)
    joined = [np.concatenate(tables) for tables in (samples, parts, keys)]
    return joined[0], joined[1], joined[2], list(names)


def text_tokens(
    side: Sidecar,
    processor: Processor,
    shards: list[Shard],
    rendering: Rendering = CONVERSATION,
) -> np.ndarray:
    """Return the text tokens of consecutive shards, counting those that nobody counted yet."""
    kind = f"-{rendering.name}" if rendering.name else ""
    path = side.tables / f"tokens-{processor.fingerprint}{kind}.npy"
    first, end = shards[0].first, shards[-1].first + shards[-1].rows
    if isinstance(side.folder, str) and not path.is_file():
        fetch_table(side, path.name)
    if (counts := _counted(path, first, end)) is not None:
        return counts
    if not os.access(side.home, os.W_OK):
        path = cache_dir() / "index" / side.tables.name / path.name
        if (counts := _counted(path, first, end)) is not None:
            return counts
    with exclusive(path.parent / "tokens"):
        if (counts := _counted(path, first, end)) is not None:
            return counts  # by another process, while this one waited
        counts = np.load(path) if path.is_file() else np.full(len(side.samples), UNKNOWN, np.uint32)
        for shard in shards:
            rows = slice(shard.first, shard.first + shard.rows)
            if (counts[rows] == UNKNOWN).any():
                counts[rows] = list(_count_text(side, shard, processor, rendering))
        with replacing(path) as scratch:
            write_table(scratch, counts)
    return counts[first:end]


def _counted(path: Path, first: int, end: int) -> np.ndarray | None:
    if not path.is_file():
        return None
    counts = np.load(path, mmap_mode="r")[first:end]
    return None if (counts == UNKNOWN).any() else counts


def _count_text(
    side: Sidecar, shard: Shard, processor: Processor, rendering: Rendering
) -> Iterator[int]:
    for data, parts in _json_parts(side, shard):
        videos = {side.names[part["name"]]: part for part in parts[parts["kind"] == VIDEO]}
        try:
            found = rendering.documents(json.loads(data))
            yield sum(processor.text_length(messages, videos) for messages in found)
        except (MessageError, ValueError):
            yield 0


def _json_parts(side: Sidecar, shard: Shard) -> Iterator[tuple[bytes, np.ndarray]]:
    """Yield the json part of each sample of a shard, and its rows of the table of parts."""
    samples = side.samples[shard.first : shard.first + shard.rows]
    json_name = side.names.index("json")
    with open_shard(side.place(shard)) as file, mapped(file.fileno()) as archive:
        for first, count in zip(samples["part"].tolist(), samples["parts"].tolist(), strict=True):
            parts = side.parts[first : first + count]
            row = parts[parts["name"] == json_name][0]
            data = archive[int(row["offset"]) : int(row["offset"]) + int(row["size"])]
            yield data.tobytes(), parts
