"""Read Qt's resource containers (.rcc), as its `rcc --binary` writes them."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from ..base import SourceError

ZLIB, FOLDER, ZSTD = 1, 2, 4  # flags of an entry
MOST_BYTES = 1 << 26  # of one file
MOST_FILES = 100_000
LONGEST_NAME = 4096


def read_rcc(path: Path) -> dict[str, bytes]:
    """Return the files of a container by name, in its order.

    The layout is that of QResource: a tree of entries, a table of names in UTF-16, and the files,
    each after its length; all numbers are big-endian.

    Raises:
        SourceError: it is none, is cut off, or holds more than MOST_BYTES in a file.
    """
    data = path.read_bytes()
    try:
        magic, version, tree, files, names = struct.unpack_from(">4s4I", data)
        if magic != b"qres" or not 1 <= version <= 3:
            raise ValueError(f"it starts with {magic!r}, version {version}, not qres, 1 to 3")
        found: dict[str, bytes] = {}
        for name, offset, flags in _entries(data, tree, names, 14 if version < 2 else 22):
            found[name] = _file(data, files + offset, flags)
        return found
    except (struct.error, ValueError, zlib.error, OSError) as error:
        raise SourceError(f"{path}: not a readable Qt resource container ({error})") from error


def _entries(data: bytes, tree: int, names: int, size: int) -> Iterator[tuple[str, int, int]]:
    """Yield (name, offset, flags) of each file; entries are of `size` bytes, the first the root."""
    waiting, seen = [(0, "")], 0
    while waiting:
        number, folder = waiting.pop()
        seen += 1
        if seen > MOST_FILES:
            raise ValueError(f"over {MOST_FILES:,} entries")
        at = tree + number * size
        label, flags = struct.unpack_from(">IH", data, at)
        name = folder + _name(data, names + label) if number else ""
        if len(name) > LONGEST_NAME:
            raise ValueError("folders that do not end")
        if flags & FOLDER:
            count, first = struct.unpack_from(">II", data, at + 6)
            if count > MOST_FILES:
                raise ValueError(f"a folder of {count:,} entries")
            inside = f"{name}/" if number else ""
            waiting += [(child, inside) for child in reversed(range(first, first + count))]
        else:
            (offset,) = struct.unpack_from(">I", data, at + 10)  # after country and language
            yield name, offset, flags


def _name(data: bytes, at: int) -> str:
    length, _ = struct.unpack_from(">HI", data, at)  # and a hash
    text = data[at + 6 : at + 6 + 2 * length]
    if len(text) < 2 * length:
        raise ValueError("a name is cut off")
    return text.decode("utf-16-be")


def _file(data: bytes, at: int, flags: int) -> bytes:
    (length,) = struct.unpack_from(">I", data, at)
    packed = data[at + 4 : at + 4 + length]
    if len(packed) < length:
        raise ValueError("a file is cut off")
    if flags & ZSTD:
        import pyarrow

        with pyarrow.CompressedInputStream(pyarrow.BufferReader(packed), "zstd") as stream:
            whole = stream.read(MOST_BYTES + 1)
    elif flags & ZLIB:
        decoder = zlib.decompressobj()
        whole = decoder.decompress(packed[4:], MOST_BYTES + 1)  # after its length
        if not decoder.eof and len(whole) <= MOST_BYTES:
            raise ValueError("a compressed file is cut off")
    else:
        whole = packed
    if len(whole) > MOST_BYTES:
        raise ValueError(f"a file of over {MOST_BYTES:,} bytes")
    return whole
