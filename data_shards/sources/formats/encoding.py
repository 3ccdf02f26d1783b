"""Text files of users, in UTF-8 or what their first bytes say; what cannot be read is refused."""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from .convert import RowError

# UTF-32 first: its mark begins as that of UTF-16 does
MARKS = {
    **dict.fromkeys((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "utf-32"),
    **dict.fromkeys((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "utf-16"),
    codecs.BOM_UTF8: "utf-8-sig",
}
# what is no UTF-8, as `surrogateescape` keeps it, and the zeros of a UTF-16 without a mark
_WRONG = re.compile("[\udc80-\udcff\0]")


def encoding_of(head: bytes) -> str:
    """Return the encoding of a file by its first four bytes; without a mark, UTF-8."""
    return next((name for mark, name in MARKS.items() if head.startswith(mark)), "utf-8")


def open_text(path: Path, newline: str = "\n") -> TextIO:
    """Open a file whose lines may hold what `readable` refuses, so that it costs only those."""
    with path.open("rb") as file:
        encoding = encoding_of(file.read(4))
    return path.open(encoding=encoding, errors="surrogateescape", newline=newline)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line) of what is not blank; marks of joined files are left out.

    Lines may hold what `readable` refuses. A file cut within a character of UTF-16 or UTF-32
    yields a last line of that kind.
    """
    number = 0
    with open_text(path) as file:
        try:
            for number, line in enumerate(file, start=1):
                if text := line.removeprefix("\ufeff").strip():
                    yield number, text
        except UnicodeDecodeError:
            yield number + 1, "\udcff"


def readable(text: str) -> str:
    """Return the text.

    Raises:
        RowError: it was not in the encoding of its file.
    """
    if found := _WRONG.search(text):
        if found[0] == "\0":
            raise RowError("the text has null characters; save the file as UTF-8")
        raise RowError(f"byte 0x{ord(found[0]) - 0xDC00:02x} is not UTF-8; save the file as UTF-8")
    return text


def decoded(data: bytes) -> str:
    """Return the text of a small file.

    Raises:
        RowError: it is not in UTF-8, nor in what its first bytes say.
    """
    try:
        return readable(data.decode(encoding_of(data), "surrogateescape"))
    except UnicodeDecodeError as error:
        raise RowError(f"the text is not {error.encoding}: {error.reason}") from error
