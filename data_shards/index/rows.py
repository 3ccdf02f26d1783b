"""The rows of one shard: where each sample lies, its checksums, and what its media are.

A sample costs 44 bytes and its key, a part of it 62 more. So 10^9 samples of two parts (json and
an image) with keys of eight letters are 176 GB on disk, of which only what is looked at is ever
in memory: rows are memory-mapped.
"""

import hashlib
import json
from collections import Counter
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.lib.recfunctions import repack_fields

from omni.media.decode import MediaError
from omni.media.facts import KINDS, Facts, facts_of
from omni.processing.clips import HEARD
from omni.processing.messages import MessageError, media_refs

from ..shards.sample import Sample, SampleError, parse
from ..shards.shard import Bad, Entry, group, mapped

SAMPLE = np.dtype([
    ("offset", "<u8"),  # of the first header in the shard
    ("span", "<u8"),  # bytes from there that hold all parts: one read gets a sample
    ("part", "<u8"),  # row of the first part; the others follow
    ("key", "<u8"),  # where the key begins among the bytes of all keys
    ("shard", "<u4"),
    ("chars", "<u4"),  # of text in the conversation
    ("parts", "<u2"),
    ("key_size", "<u2"),
])  # fmt: skip
PART = np.dtype([
    ("offset", "<u8"),  # of its content in the shard
    ("size", "<u8"),
    ("crc", "<u4"),  # crc32c
    ("name", "<u4"),  # row of the table of names
    ("width", "<u4"), ("height", "<u4"),  # pixels as shown: image, video
    ("count", "<u4"), ("rate", "<f4"),  # samples and Hz: audio; frames and frames/s: video
    ("uses", "<u4"),  # how often the messages show it
    ("fps", "<f4"), ("max_frames", "<u2"),  # of a video part; 0 where it leaves that open
    ("kind", "<u2"),  # see omni.media.facts.KINDS; 0 is json, or a file that no message names
    ("sound_start", "<f4"), ("sound_end", "<f4"),  # of a video, in seconds from its first frame
    ("sound", "<u2"),  # of a video part, see omni.processing.clips.HEARD
])  # fmt: skip
_SOUND = ["sound_start", "sound_end", "sound"]


@dataclass(slots=True)
class Rows:
    """The rows of one shard; `shard`, `part`, `key` and `name` count from 0 within it."""

    samples: np.ndarray
    parts: np.ndarray
    keys: np.ndarray  # (bytes,) uint8
    names: list[str]
    bad: list[Bad] = field(default_factory=list)

    def digest(self) -> str:
        """Return a digest of all rows: equal for equal samples at equal places."""
        told = hashlib.sha256(json.dumps(self.names).encode())
        parts = repack_fields(self.parts[[n for n, *_ in PART.descr if n not in _SOUND]])
        for table in (self.samples, parts, self.keys, *self._sounds()):
            told.update(table.tobytes())
        return told.hexdigest()[:16]

    def _sounds(self) -> list[np.ndarray]:
        """Return what is known of sound tracks; nothing where there is none, as in schema 3."""
        columns = [self.parts[name] for name in _SOUND]
        return columns if any(column.any() for column in columns) else []

    def renumber(self, shard: int, part: int, key: int, names: dict[str, int]) -> None:
        """Make the rows those of a larger table, in place; its `names` grow where they must."""
        ids = [names.setdefault(name, len(names)) for name in self.names]
        self.samples["shard"] = shard
        self.samples["part"] += part
        self.samples["key"] += key
        if ids:
            self.parts["name"] = np.array(ids, "<u4")[self.parts["name"]]

    def save(self, path: Path) -> None:
        """Write everything to one file."""
        told = json.dumps({"names": self.names, "bad": [astuple(b) for b in self.bad]})
        blob = np.frombuffer(told.encode("ascii"), np.uint8)
        with path.open("wb") as file:
            np.savez(file, samples=self.samples, parts=self.parts, keys=self.keys, told=blob)

    @classmethod
    def load(cls, path: Path) -> "Rows":
        """Read what `save` wrote."""
        with np.load(path) as file:
            told = json.loads(file["told"].tobytes())
            bad = [Bad(*b) for b in told["bad"]]
            return cls(file["samples"], file["parts"], file["keys"], told["names"], bad)


def scan_rows(path: str | Path) -> Rows:
    """Read a shard once, front to back: headers, json, checksums and the headers of media.

    A sample whose json or media nobody could read is listed in `bad` and gets no row.
    """
    with mapped(path) as archive:
        entries, bad = group(path, archive)
        samples, parts, keys, key_at = [], [], [], 0
        names: dict[str, int] = {}
        for entry in entries:
            try:
                found = _parts(entry, archive, names)
            except (SampleError, MessageError, MediaError) as error:
                bad.append(Bad(Path(path).name, entry.key, entry.offset, str(error)))
                continue
            chars, rows = found
            key = entry.key.encode("utf-8", "surrogateescape")
            samples.append((entry.offset, entry.span, len(parts), key_at, 0,
                            chars, len(rows), len(key)))  # fmt: skip
            parts += rows
            keys.append(key)
            key_at += len(key)
    blob = np.frombuffer(b"".join(keys), np.uint8)
    return Rows(np.array(samples, SAMPLE), np.array(parts, PART), blob, list(names), bad)


def _parts(
    entry: Entry, archive: np.ndarray, names: dict[str, int]
) -> tuple[int, list[tuple[Any, ...]]]:
    """Return the characters of text in a sample, and the row of each of its parts."""
    data = {p.name: archive[p.offset : p.offset + p.size] for p in entry.parts}
    sample = parse(entry.key, {**dict.fromkeys(data, b""), "json": data["json"].tobytes()})
    uses, sampling, rows = _uses(sample), _sampling(sample), []
    for part in entry.parts:
        kind, count = uses.get(part.name, ("", 0))
        facts = Facts()
        if kind:
            try:
                facts = facts_of(kind, data[part.name])
            except MediaError as error:
                raise MediaError(f"{part.name}: {error}") from error
        crc = google_crc32c.value(data[part.name])
        name = names.setdefault(part.name, len(names))
        fps, most, sound = sampling.get(part.name, (0, 0, 0))
        rows.append((part.offset, part.size, crc, name, *facts[:4], count, fps, most,
                     KINDS.index(kind), *facts[4:], sound))  # fmt: skip
    return _chars(sample), rows


def _uses(sample: Sample) -> dict[str, tuple[str, int]]:
    """Count how often the conversation shows each file, and as what."""
    uses: dict[str, tuple[str, int]] = {}
    for (name, kind), count in Counter((r, k) for k, r in media_refs(sample.messages)).items():
        if name in uses:
            raise SampleError(f"{name} is used as {uses[name][0]} and as {kind}")
        uses[name] = (kind, count)
    return uses


def _sampling(sample: Sample) -> dict[str, tuple[float, int, int]]:
    """Tell how the conversation asks for each video: fps, frames at most, whether it is heard."""
    found: dict[str, tuple[float, int, int]] = {}
    for part in (p for m in sample.messages for p in m["content"] if p["type"] == "video"):
        told = part.get("fps", 0), part.get("max_frames", 0), HEARD[part.get("sound")]
        if found.setdefault(part["video"], told) != told:
            raise SampleError(f"{part['video']} is shown in two ways: store it twice")
    return found


def _chars(sample: Sample) -> int:
    return sum(
        len(part["text"]) for m in sample.messages for part in m["content"] if "text" in part
    )
