"""Tar shards of other makers: jpg+txt, mp3+json and the like, read through damage."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np

from omni.media.kind import kind_by_content

from ...shards.sample import MAX_JSON_BYTES, Sample
from ...shards.shard import Part, find_shards, mapped, split
from ...shards.tar import Scan, scan
from ..base import Build, SourceError
from .attachments import kind_of
from .convert import Conversations, Input, RowError, said
from .encoding import decoded
from .jsonl import parsed
from .places import Places, walk
from .rows import CAPTIONS, QUESTION, REPLIES, Draft, draft, listed, opened
from .unpacked import SUFFIXES, Unpacked, UnpackError, braces

TEXTS = (*CAPTIONS, *REPLIES, QUESTION, "system")
UNREAD = b"of a part that holds no text"
NOWHERE = Places(Path("the tar"))  # names in a tar's json lead to no files


@dataclass
class WebDataset(Conversations):
    """Tar shards of other makers: images or audio with txt or json parts, names of any kind."""

    data: Annotated[
        str, "folder of tars, a tar, or a pattern such as 'cc12m/*.tar' or 'cc12m/{000..331}.tar'"
    ] = ""
    question: Annotated[str, "part or json key of the question, or the text to ask"] = ""
    answer: Annotated[str, "part or json key of the answer (default: caption, text, ...)"] = ""

    name: ClassVar[str] = "webdataset"

    def inputs(self, build: Build) -> Iterator[Input]:
        """Yield every sample that damage left whole; places of damage are named."""
        if not self.data:
            raise SourceError("webdataset needs --data FOLDER, TAR or PATTERN")
        tars = self._tars(build)
        root = os.path.commonpath([tar.parent for tar in tars])
        unpacked = Unpacked()
        for tar in tars:
            yield from self._tar(tar, os.path.relpath(tar, root), unpacked, build)

    def _tars(self, build: Build) -> list[Path]:
        """Return the tars that --data means; raises SourceError for one that is not there."""
        folder = Path(self.data).expanduser()
        if folder.is_dir():
            tars = []
            for path in walk(folder):
                if path.name.lower().endswith(SUFFIXES):
                    tars.append(path)
                else:
                    build.unused(path.suffix.lower() or path.name, of="file")
            if not tars:
                raise SourceError(f"--data {self.data}: no tar file there")
            return tars
        try:
            return find_shards(braces(self.data))
        except FileNotFoundError as error:
            raise SourceError(f"--data {self.data}: no tar file there: {error}") from error

    def _tar(self, tar: Path, where: str, unpacked: "Unpacked", build: Build) -> Iterator[Input]:
        try:
            file = unpacked.open(tar)
        except UnpackError as error:
            build.skip(where, str(error))
            return
        if file.damage:
            build.skip(where, file.damage)
        with mapped(file.fileno()) as archive:
            found = scan(archive)
            hit = {split(damage.name)[0] for damage in found.damage if damage.name}
            for damage in found.damage:
                build.skip(f"{where}: byte {damage.offset}", damage.reason)
            for key, parts in _groups(found, where, build):
                if key in hit:
                    continue
                label = f"{where}:{key}"
                names = listed(partial(self._draft, parts, archive), NOWHERE, build)
                if not names:
                    names = (said(*(_bytes(archive, part) for part in parts.values())),)
                yield Input(
                    label, (label, *names), partial(self._sample, tar, key, parts, unpacked)
                )

    def _draft(self, parts: dict[str, Part], archive: np.ndarray) -> Draft:
        row, media = {}, []
        for name, part in parts.items():
            kind = kind_of(name)
            if kind:
                data = _bytes(archive, part)  # which say more than a suffix: sound may be in .mp4
                media.append((kind_by_content(data) or kind, {"bytes": data, "path": name}))
            elif name == "json":
                row |= _json(_bytes(archive, part))
            elif name in (*TEXTS, self.question, self.answer):
                row[name] = decoded(_bytes(archive, part)).rstrip("\r\n")
            else:
                row[name] = UNREAD
        fields = opened(row)
        return draft(fields, media, self.question, self.answer)

    def _sample(self, tar: Path, key: str, parts: dict[str, Part], unpacked: "Unpacked") -> Sample:
        file = unpacked.open(tar)
        with mapped(file.fileno()) as archive:
            found = self._draft(parts, archive)
        return found.sample(NOWHERE, {"kind": "caption", "id": key})


def _groups(found: Scan, where: str, build: Build) -> Iterator[tuple[str, dict[str, Part]]]:
    """Yield (key, its parts by name) of neighbours with one key; a repeated part starts anew."""
    last, group = "", {}
    for name, offset, size in zip(found.names, found.data, found.sizes, strict=True):
        key, part = split(name)
        if name.rpartition("/")[2].startswith("._"):
            build.unused("._* of macOS", of="file")
            continue
        if not part:
            build.skip(f"{where}:{name}", "it is no KEY.PART name")
            continue
        part = part.lower()
        if group and (key != last or part in group):
            yield last, group
            group = {}
        last, group[part] = key, Part(part, offset, size)
    if group:
        yield last, group


def _bytes(archive: np.ndarray, part: Part) -> bytes:
    return archive[part.offset : part.offset + part.size].tobytes()


def _json(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_JSON_BYTES:
        raise RowError(f"the json part has {len(data):,} bytes; the limit is {MAX_JSON_BYTES:,}")
    try:
        row = parsed(decoded(data))
    except RowError as error:
        raise RowError(f"the json part: {error}") from error
    return row if isinstance(row, dict) else {"text": row}
