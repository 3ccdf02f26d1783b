"""Questions that training has not seen, with the answers that the data has for them."""

import json
import tarfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...processing.messages import MessageError, media_refs, validate

MOST = 6  # examples of all folders together
MOST_BYTES = 16 << 20  # of a part of a sample
CLIP = 48  # characters of a question, and of an answer, on a button


@dataclass(frozen=True)
class Example:
    """A question and the answer that the data has for it; `kinds` of `files`, in order."""

    text: str
    expected: str
    files: tuple[Path, ...]
    kinds: tuple[str, ...]

    @property
    def label(self) -> str:
        """What its button says."""
        heard = "♪ " if "audio" in self.kinds else ""
        return f"{heard}{_clip(self.text or 'spoken')} → {_clip(self.expected)}"

    @property
    def icon(self) -> str | None:
        """The path of its first picture."""
        pairs = zip(self.kinds, self.files, strict=True)
        return next((str(file) for kind, file in pairs if kind == "image"), None)


class ExampleError(ValueError):
    """A folder without held-out shards."""


def heldout(folders: Sequence[Path], kinds: Collection[str], out: Path) -> list[Example]:
    """Take examples from the held-out shards of folders, or of the folders in them, by turns.

    No two have the same answer. What is no question and answer is passed over.

    Args:
        folders: of shards, as `omni-shards build` writes them.
        kinds: of media that the model reads.
        out: where the media are written.

    Raises:
        ExampleError: a folder has no held-out shard.
    """
    readers = [_questions(tar, out) for tar in (tar for f in folders for tar in shards(f))]
    found: dict[str, Example] = {}
    while readers and len(found) < MOST:
        for reader in [*readers]:
            fitting = (one for one in reader
                       if one.expected not in found and set(one.kinds) <= set(kinds))  # fmt: skip
            if one := next(fitting, None):
                found[one.expected] = one
            else:
                readers.remove(reader)
    return [*found.values()][:MOST]


def shards(folder: Path) -> list[Path]:
    """Return the held-out shards of a folder, or of the folders in it.

    Raises:
        ExampleError: there are none.
    """
    found = sorted(folder.glob("heldout*.tar")) or sorted(folder.glob("*/heldout*.tar"))
    if not found:
        raise ExampleError(
            f"--data {folder}: no heldout-*.tar there or in a folder of it; give what "
            "`omni-shards build` wrote"
        )
    return found


def _questions(tar: Path, out: Path) -> Iterator[Example]:
    for number, parts in enumerate(_samples(tar)):
        try:
            row = json.loads(parts.pop("json", b"{}"))
            messages: Any = row.get("messages") if isinstance(row, dict) else None
            validate(messages, parts)
        except (ValueError, MessageError):
            continue
        if [m["role"] for m in messages[:2]] == ["user", "assistant"]:
            place = out / f"{tar.parent.name}-{tar.stem}-{number}"
            yield _example(messages, parts, place)


def _samples(tar: Path) -> Iterator[dict[str, bytes]]:
    """Yield the parts of each sample by the end of their names; they stand together."""
    key, parts = None, {}
    with tarfile.open(tar) as file:
        for member in file:
            name, _, part = Path(member.name).name.partition(".")
            if name != key:
                if parts:
                    yield parts
                key, parts = name, {}
            content = file.extractfile(member) if member.size <= MOST_BYTES else None
            if content:
                parts[part] = content.read()
    if parts:
        yield parts


def _example(messages: list[dict[str, Any]], parts: dict[str, bytes], place: Path) -> Example:
    media = list(media_refs(messages[:1]))
    place.mkdir(parents=True, exist_ok=True)
    for _, name in media:
        (place / Path(name).name).write_bytes(parts[name])
    question, answer = (
        " ".join(part["text"] for part in message["content"] if part["type"] == "text")
        for message in messages[:2]
    )
    files = tuple(place / Path(name).name for _, name in media)
    return Example(question, answer, files, tuple(kind for kind, _ in media))


def _clip(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= CLIP else line[: CLIP - 1] + "…"
