"""LLaVA's format, a JSON of conversations beside an image folder: how to bring your own data."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from PIL import Image

from omni.messages import MessageError, image, validate

from ..manifest import sha256
from ..sample import Sample
from .base import Build, Groups, SourceError, facts, heldout, jpeg

ROLES = {"human": "user", "gpt": "assistant", "system": "system"}
PLACEHOLDER = "<image>"


class RowError(ValueError):
    """A row that cannot become a sample."""


@dataclass
class Llava:
    """LLaVA JSON (or JSONL) with an image folder."""

    json: Annotated[Path | None, "the JSON file: [{id, image, conversations}, ...], or JSONL"] = (
        None
    )
    images: Annotated[Path | None, "folder of the images (default: that of the JSON file)"] = None
    license: Annotated[str, "licence of the data, for the manifest"] = "unknown"

    name: ClassVar[str] = "llava"
    licenses: ClassVar[dict[str, str]] = {}

    def generate(self, build: Build) -> Iterator[Sample]:
        """Yield every good row; all rows about one image land in the same split."""
        if self.json is None:
            raise SourceError("llava needs --json FILE")
        from omni.media import MediaError  # here, because torch behind it takes seconds to import

        build.licenses["llava"] = self.license
        rows = list(_rows(self.json, build))
        root = (self.images or self.json.parent).resolve()
        identity = _identities([row for _, row in rows], root)
        out = heldout(dict.fromkeys(identity, ""), build.heldout, build.seed)
        build.total, made = len(rows), 0
        for (where, row), name in zip(rows, identity, strict=True):
            try:
                sample = _sample(row, root, self.license, name)
            except (RowError, MessageError, MediaError, OSError) as error:
                build.skip(where, str(error))
                continue
            sample.split = "heldout" if name in out else "train"
            made += 1
            yield sample
        if not made:
            raise SourceError(f"{self.json} holds no usable row: {'; '.join(build.skipped[:3])}")


def _rows(path: Path, build: Build) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("FILE:row or line", row) of each row that is an object."""
    if not path.is_file():
        raise SourceError(f"--json {path}: no such file")
    text = path.read_text(encoding="utf-8", errors="replace")
    if text.lstrip().startswith("["):
        try:
            rows = list(enumerate(json.loads(text)))
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{path} is not readable json: {error}") from error
    else:
        rows = []
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                rows += [(number, json.loads(line))] if line.strip() else []
            except (ValueError, RecursionError) as error:
                build.skip(f"{path.name}:{number}", f"not readable json: {error}")
    for number, row in rows:
        where = f"{path.name}:{number}"
        if isinstance(row, dict):
            yield f"{where} (id {row['id']})" if "id" in row else where, row
        else:
            build.skip(where, "the row is not an object")


def _names(row: dict[str, Any]) -> list[Any]:
    names = row.get("image") or []
    return names if isinstance(names, list) else [names]


def _identities(rows: list[dict[str, Any]], root: Path) -> list[str]:
    """Name the identity of each row; rows that share an image, even by way of others, share it.

    Images are the same when their bytes are, whatever their names.
    """
    groups, found = Groups(), []
    content: dict[str, str] = {}
    for row in rows:
        names = [str(name) for name in _names(row)]
        for name in names:
            file = (root / name).resolve()
            if file.is_relative_to(root) and file.is_file():
                groups.join(content.setdefault(sha256(file), name), name)
        # a row without an image is known by what is said in it
        names = names or [json.dumps(row.get("conversations"), sort_keys=True)[:200]]
        for name in names:
            groups.join(names[0], name)
        found.append(names[0])
    return [groups.find(name) for name in found]


def _sample(row: dict[str, Any], root: Path, licence: str, identity: str) -> Sample:
    names = _names(row)
    parts = {f"img{i}.jpg": _read(root, name) for i, name in enumerate(names)}
    messages, refs = [], list(parts)
    turns = row.get("conversations")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise RowError("'conversations' must be a list of {from, value}")
    values = [turn.get("value") for turn in turns]
    if not all(isinstance(value, str) for value in values):
        raise RowError("every turn needs a text under 'value'")
    marks = sum(value.count(PLACEHOLDER) for value in values)
    if marks == 0 and refs:  # some sets leave the mark out and mean the start of the first question
        first = next((i for i, turn in enumerate(turns) if turn.get("from") == "human"), 0)
        values[first] = PLACEHOLDER * len(refs) + values[first]
    elif marks != len(refs):
        raise RowError(f"{marks} {PLACEHOLDER} marks for {len(refs)} images")
    for turn, value in zip(turns, values, strict=True):
        if turn.get("from") not in ROLES:
            raise RowError(f"unknown speaker {turn.get('from')!r}; use one of {', '.join(ROLES)}")
        messages.append({"role": ROLES[turn["from"]], "content": _content(value, refs)})
    validate(messages, parts)
    if messages[-1]["role"] != "assistant":
        raise RowError("the conversation does not end with an answer")
    meta = facts("llava", licence, "conversation", identity=identity, id=str(row.get("id", "")))
    return Sample(messages, parts, meta)


def _content(value: str, refs: list[str]) -> list[dict[str, Any]]:
    """Split a turn at its image marks; takes the images it shows off the front of `refs`."""
    content: list[dict[str, Any]] = []
    for piece in re.split(f"({PLACEHOLDER})", value):
        if piece == PLACEHOLDER:
            content.append(image(refs.pop(0)))
        elif piece.strip():
            content.append({"type": "text", "text": piece.strip()})
    return content


def _read(root: Path, name: Any) -> bytes:
    """Read an image inside `root` as JPEG bytes; other formats are converted, so all are alike."""
    from omni.media import LIMITS, MediaError, load_image

    path = (root / str(name)).resolve()
    if not path.is_relative_to(root):
        raise RowError(f"image {name!r} lies outside the image folder")
    if not path.is_file():
        raise RowError(f"image {name!r} is not in {root}")
    if path.stat().st_size > LIMITS.max_bytes:
        raise MediaError(f"image {name!r} is over the limit of {LIMITS.max_bytes:,} bytes")
    data = path.read_bytes()
    try:
        picture = load_image(data)
    except MediaError as error:
        raise MediaError(f"image {name!r}: {error}") from error
    with Image.open(io.BytesIO(data)) as opened:
        is_jpeg = opened.format == "JPEG"
    return data if is_jpeg else jpeg(picture, quality=95)
