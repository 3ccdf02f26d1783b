"""When two questions are the same: their words and their media are."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from .messages import Message


class Identity(NamedTuple):
    """Digests of a question and of its media alone, and the bytes that they hold."""

    whole: str
    media: str
    size: int


def identify(messages: list[Message]) -> Identity:
    """Read all of a conversation; media of the same content are the same, wherever they lie."""
    whole, media, size = hashlib.sha256(), hashlib.sha256(), 0
    for turn in messages:
        whole.update(f"|{turn['role']}".encode())
        for part in turn["content"]:
            kind = part["type"]
            about = {name: value for name, value in part.items() if name not in ("type", kind)}
            whole.update(f"|{kind}|{sorted(about.items())}".encode())
            content = _content(kind, part[kind])
            size += len(content)
            digest = hashlib.sha256(content).digest()
            whole.update(digest)
            if kind != "text":
                media.update(digest)
    return Identity(whole.hexdigest(), media.hexdigest(), size)


def _content(kind: str, value: Any) -> bytes:
    """What is in a part: of a medium its bytes, wherever they lie; a changed file is another."""
    if kind != "text" and isinstance(value, str | Path) and Path(value).is_file():
        with Path(value).open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    if isinstance(value, dict):  # a sound: its samples and their rate
        return b"|".join(f"{name}:".encode() + _content(kind, value[name]) for name in value)
    if isinstance(value, bytes):
        return value
    if hasattr(value, "tobytes"):  # a PIL image or an array: its shape belongs to its content
        shape = getattr(value, "size", ""), getattr(value, "shape", ""), getattr(value, "mode", "")
        palette = value.getpalette() if hasattr(value, "getpalette") else None
        return f"{shape}{palette}".encode() + value.tobytes()
    return str(value).encode()
