"""Tar shards of other makers: jpg+txt, mp3+json and the like, read through damage."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np

from ...shards.sample import MAX_JSON_BYTES, Sample
from ...shards.shard import Part, find_shards, mapped, split
from ...shards.tar import Scan, scan
from ..base import Build, SourceError
from .attachments import Attachments, content, kind_of
from .convert import Converter, Input, RowError, said
from .turns import described

TEXTS = ("txt", "text", "caption")


@dataclass
class WebDataset(Converter):
    """Tar shards of other makers: images or audio with txt or json parts, names of any kind."""

    data: Annotated[str, "folder of tars, a tar, or a pattern such as 'cc12m/*.tar'"] = ""
    question: Annotated[str, "part or json key of the question, or the text to ask"] = ""
    answer: Annotated[str, "part or json key of the answer (default: caption, text, ...)"] = ""

    name: ClassVar[str] = "webdataset"

    def inputs(self, build: Build) -> Iterator[Input]:
        """Yield every sample that damage left whole; places of damage are named."""
        if not self.data:
            raise SourceError("webdataset needs --data FOLDER, TAR or PATTERN")
        folder = Path(self.data).expanduser()
        try:
            tars = find_shards(str(folder / "**/*.tar") if folder.is_dir() else self.data)
        except FileNotFoundError as error:
            raise SourceError(f"--data {self.data}: no tar file there") from error
        root = os.path.commonpath([tar.parent for tar in tars])
        for tar in tars:
            yield from self._tar(tar, os.path.relpath(tar, root), build)

    def _tar(self, tar: Path, where: str, build: Build) -> Iterator[Input]:
        with mapped(tar) as archive:
            if archive[:2].tobytes() == b"\x1f\x8b":
                build.skip(where, "is compressed; unpack it with gunzip")
                return
            found = scan(archive)
            hit = {split(damage.name)[0] for damage in found.damage if damage.name}
            for damage in found.damage:
                build.skip(f"{where}: byte {damage.offset}", damage.reason)
            for key, parts in _groups(found):
                if key in hit:
                    continue
                label, names = f"{where}:{key}", _names(parts, archive)
                yield Input(label, (label, *names), partial(self._sample, tar, key, parts))

    def _sample(self, tar: Path, key: str, parts: dict[str, Part]) -> Sample:
        media, row = Attachments(), {}
        with tar.open("rb") as file:
            for part, at in parts.items():
                kind = kind_of(part)
                if not kind and part not in (*TEXTS, "json", self.question, self.answer):
                    continue
                data = os.pread(file.fileno(), at.size, at.offset)
                if kind:
                    media.add(kind, data, part)
                elif part == "json":
                    row |= _json(data)
                else:
                    row[part] = data.decode("utf-8", "replace")
        messages = described(row, media, self.question, self.answer)
        return Sample(messages, media.parts, {"kind": "caption", "id": key})


def _groups(found: Scan) -> Iterator[tuple[str, dict[str, Part]]]:
    """Yield (key, its parts by name) of neighbours with one key; a repeated part starts anew."""
    last, group = "", {}
    for name, offset, size in zip(found.names, found.data, found.sizes, strict=True):
        key, part = split(name)
        if key.rpartition("/")[2].startswith("._") or not part:  # what macOS adds; no KEY.PART
            continue
        part = part.lower()
        if group and (key != last or part in group):
            yield last, group
            group = {}
        last, group[part] = key, Part(part, offset, size)
    if group:
        yield last, group


def _names(parts: dict[str, Part], archive: np.ndarray) -> list[str]:
    """Return what a sample's media are known by in any tar; without media, its text."""
    data = {name: archive[p.offset : p.offset + p.size].tobytes() for name, p in parts.items()}
    return [content(d) for part, d in data.items() if kind_of(part)] or [said(*data.values())]


def _json(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_JSON_BYTES:
        raise RowError(f"the json part has {len(data):,} bytes; the limit is {MAX_JSON_BYTES:,}")
    try:
        row = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RowError(f"the json part is not readable json: {error}") from error
    return row if isinstance(row, dict) else {"text": row}
