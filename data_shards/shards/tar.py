"""Find the members of a tar file by its headers, and keep going after damage.

Headers are followed in plain Python, one integer each, and checked a thousand at a time with
numpy: that is many times quicker than `tarfile`, and no less strict.
"""

import struct
import tarfile
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

BLOCK = 512
_CHUNK = 4096  # headers checked at once: 2 MB
_MAX_NAME_BYTES = 1 << 16
_CHECKSUM = slice(148, 156)
_TYPE, _PREFIX = 156, 345
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE)  # they hold the next member's name
_DATALESS = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE,
             tarfile.CHRTYPE, tarfile.BLKTYPE)  # fmt: skip
_SIZE = struct.Struct("11s").unpack_from  # octal digits; the twelfth byte ends them
_PLAIN, _ENDS = (np.isin(np.arange(256), codes) for codes in ([*b"0\0007"], [0, 32]))


class Damage(NamedTuple):
    """A place in the archive that could not be understood; `name` is the file it hit, if known."""

    offset: int
    reason: str
    name: str = ""


@dataclass(slots=True)
class Scan:
    """What an archive holds: intact files in order, as columns, and damaged places.

    All numbers are bytes: `starts` is the offset of a file's first header, extension headers
    with a long name included, `data` that of its content.
    """

    names: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    data: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)


def scan(archive: np.ndarray) -> Scan:
    """Find every intact member of an archive, (bytes,) uint8.

    Other readers take a bad header for the end of the archive and lose the rest without a
    word. Two facts keep everything intact here: (1) headers lie on 512-byte boundaries and
    carry a checksum, so after damage the next good one can always be searched for; (2) a size
    is believed only under a valid checksum, so a damaged one cannot lead past other members.
    """
    found = Scan()
    if not len(archive):
        found.damage.append(Damage(0, "the file is empty"))
        return found
    blocks = archive[: len(archive) // BLOCK * BLOCK].reshape(-1, BLOCK)
    walk = _Walk(archive, blocks, found)
    while walk.at < len(blocks):
        walk.run()
        if walk.at < len(blocks):
            walk.step()
    if not walk.ended:
        reason = "no end-of-archive marker: the file was cut, later samples are missing"
        found.damage.append(Damage(len(archive), reason))
    return found


class _Walk:
    """A position in an archive, `at` blocks from its start, and what was found before it."""

    def __init__(self, archive: np.ndarray, blocks: np.ndarray, found: Scan):
        self.blocks, self.found, self.size = blocks, found, len(archive)
        self.bytes = memoryview(archive)  # type: ignore[arg-type]
        self.at, self.ended = 0, False
        self._name, self._start = "", -1  # of an extension header, for the file that follows

    def run(self) -> None:
        """Follow plain headers as long as each is good."""
        good = _CHUNK
        while good == _CHUNK:
            offsets, sizes = self._follow()
            rows = self.blocks[np.array(offsets, np.int64) // BLOCK]  # (n, 512)
            plain = np.append(valid(rows) & _ENDS[rows[:, 135]], False)
            good = int(np.argmin(plain))
            rows, kinds = rows[:good], rows[:good, _TYPE]
            if good and self._start < 0 and _PLAIN[kinds].all():
                self._take_all(_names(rows), offsets[:good], sizes[:good])
                continue
            heads = zip(kinds.tolist(), _names(rows), offsets, sizes, strict=False)
            for kind, name, offset, size in heads:
                self._take(bytes((kind,)), name, offset, size)
                if self.at * BLOCK != offset + BLOCK + (size + BLOCK - 1 & -BLOCK):
                    return  # no content, or the end: what was followed from there is not so

    def _follow(self) -> tuple[list[int], list[int]]:
        """List the offsets and sizes that a chain of headers claims from here on, unchecked."""
        offsets: list[int] = []
        sizes: list[int] = []
        at, view, last = self.at * BLOCK, self.bytes, len(self.blocks) * BLOCK
        try:
            while at < last and len(offsets) < _CHUNK:
                size = int(_SIZE(view, at + 124)[0], 8)
                if size < 0:
                    break
                offsets.append(at)
                sizes.append(size)
                at += BLOCK + (size + BLOCK - 1 & -BLOCK)
        except ValueError:  # zeros, junk, or a size that is not octal: `step` looks closer
            pass
        return offsets, sizes

    def _take_all(self, names: list[str], offsets: list[int], sizes: list[int]) -> None:
        """Note files with nothing special about them; the last one may be cut off."""
        found, last = self.found, len(names) - 1
        found.names += names[:last]
        found.starts += offsets[:last]
        found.data += [offset + BLOCK for offset in offsets[:last]]
        found.sizes += sizes[:last]
        self._take(tarfile.REGTYPE, names[last], offsets[last], sizes[last])

    def step(self) -> None:
        """Deal with one block that is no plain header: an end mark, a rare kind, or damage."""
        block = self.blocks[self.at].tobytes()
        if not any(block):
            ahead = self.blocks[self.at : self.at + _CHUNK]
            other = np.flatnonzero(np.any(ahead, axis=1))
            self.ended, self.at = True, self.at + int(other[0] if len(other) else len(ahead))
            return
        info = _header(block)
        if info is not None:
            self._take(info.type, info.name, self.at * BLOCK, info.size)
            return
        start, self.at = self.at, next_header(self.blocks, self.at + 1)
        self._name, self._start = "", -1
        reason = f"{(self.at - start) * BLOCK} bytes that are no tar header; skipped"
        self.found.damage.append(Damage(start * BLOCK, reason))

    def _take(self, kind: bytes, name: str, offset: int, size: int) -> None:
        """Note what is under a good header, and move behind it."""
        data, found = offset + BLOCK, self.found
        start = offset if self._start < 0 else self._start
        name, long_name = self._name or name, self._name
        self._name, self._start, self.ended = "", -1, False
        if kind in _DATALESS:
            size = 0
        self.at = (data + size + BLOCK - 1) // BLOCK
        if data + size > self.size:
            lack = data + size - self.size
            reason = f"truncated: {lack} bytes of {name!r} are missing"
            found.damage.append(Damage(offset, reason, name))
            self.at, self.ended = len(self.blocks), True
        elif kind in _NAMES:
            text = bytes(self.bytes[data : data + min(size, _MAX_NAME_BYTES)])
            self._name, self._start = _long_name(kind, text) or long_name, start
        elif kind in _FILES:
            found.names.append(name)
            found.starts.append(start)
            found.data.append(data)
            found.sizes.append(size)


def valid(rows: np.ndarray) -> np.ndarray:
    """Tell which blocks, (n, 512) uint8, carry the checksum of a tar header: (n,) bool.

    The sum is over unsigned bytes with the checksum field itself read as spaces; the field holds
    octal digits padded with spaces and zero bytes.
    """
    total = rows.sum(1, dtype=np.uint32) - rows[:, _CHECKSUM].sum(1, dtype=np.uint32) + 8 * 32
    stated = np.zeros(len(rows), np.uint32)
    clean, any_digit = np.ones(len(rows), bool), np.zeros(len(rows), bool)
    for column in rows[:, _CHECKSUM].T:
        digit = (column >= 48) & (column < 56)
        stated = np.where(digit, stated * 8 + column - 48, stated)
        clean &= digit | (column == 0) | (column == 32)
        any_digit |= digit
    return clean & any_digit & (stated == total)


def next_header(blocks: np.ndarray, at: int) -> int:
    """Return the number of the first block from `at` on that is a good header, or their count."""
    for first in range(at, len(blocks), _CHUNK):
        for hit in np.flatnonzero(valid(blocks[first : first + _CHUNK])):
            if _header(blocks[first + int(hit)].tobytes()) is not None:
                return first + int(hit)
    return len(blocks)


def _names(rows: np.ndarray) -> list[str]:
    """Read the names of good headers, (n, 512) uint8."""
    raw = np.ascontiguousarray(rows[:, :100]).view("S100")[:, 0].tolist()
    names = [name.decode("utf-8", "surrogateescape") for name in raw]
    for i in np.flatnonzero(rows[:, _PREFIX]):  # a long name in two fields
        info = _header(rows[i].tobytes())
        names[i] = info.name if info else names[i]
    return [name.partition("\0")[0] if "\0" in name else name for name in names]


def _header(block: bytes) -> tarfile.TarInfo | None:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None
    return info if info.size >= 0 else None


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
