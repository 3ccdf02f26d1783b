"""Find the members of a tar file by its headers, and keep going after damage."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap

BLOCK = 512
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_MAX_NAME_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file of the archive: `header` and `data` are byte offsets."""

    name: str
    header: int
    data: int
    size: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A place in the archive that could not be understood; `name` is the file it hit, if known."""

    offset: int
    reason: str
    name: str = ""


def scan(archive: mmap | bytes) -> Iterator[Member | Damage]:
    """Yield every intact member in order, and every damaged place where it was met.

    Other readers take a bad header for the end of the archive and lose the rest without a
    word. Members start on 512-byte boundaries and headers carry a checksum, so the next good
    header can always be searched for.
    """
    size, at, ended, long_name = len(archive), 0, False, ""
    if not size:
        yield Damage(0, "the file is empty")
        return
    while at + BLOCK <= size:
        block = bytes(archive[at : at + BLOCK])
        if not any(block):
            ended, at = True, at + BLOCK
            continue
        info = _header(block)
        if info is None:
            start, at = at, _next_header(archive, at + BLOCK)
            yield Damage(start, f"{at - start} bytes that are no tar header; skipped")
            continue
        ended, data = False, at + BLOCK
        name, long_name = long_name or info.name, ""
        if data + info.size > size:
            lack = data + info.size - size
            yield Damage(at, f"truncated: {lack} bytes of {name!r} are missing", name)
            return
        if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
            text = bytes(archive[data : data + min(info.size, _MAX_NAME_BYTES)])
            long_name = _long_name(info.type, text)
        elif info.type in _FILES:
            yield Member(name, at, data, info.size)
        at = data + -(-info.size // BLOCK) * BLOCK
    if not ended:
        yield Damage(size, "no end-of-archive marker: the file was cut, later samples are missing")


def _header(block: bytes) -> tarfile.TarInfo | None:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None
    return info if info.size >= 0 else None


def _next_header(archive: mmap | bytes, at: int) -> int:
    while at + BLOCK <= len(archive):
        if _header(bytes(archive[at : at + BLOCK])) is not None:
            return at
        at += BLOCK
    return len(archive)


def _long_name(kind: bytes, data: bytes) -> str:
    """Return the next member's name from a GNU or pax extension ("" if it has none)."""
    if kind == tarfile.GNUTYPE_LONGNAME:
        return data.rstrip(b"\0").decode("utf-8", "surrogateescape")
    at = 0
    while at < len(data):  # records: b"<length of the record> <keyword>=<value>\n"
        length, _, record = data[at : at + _MAX_NAME_BYTES].partition(b" ")
        if not length.isdigit() or not int(length):
            return ""
        record = record[: int(length) - len(length) - 2]
        if record.startswith(b"path="):
            return record[5:].decode("utf-8", "surrogateescape")
        at += int(length)
    return ""
