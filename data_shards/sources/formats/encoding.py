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
# a byte that is no UTF-8, as `surrogateescape` keeps it, what stands for damage in UTF-16 and
# UTF-32, and the zeros of a UTF-16 without a mark
DAMAGE = "\udc00"
_WRONG = re.compile(f"[\udc80-\udcff{DAMAGE}\0]")


def _damaged(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return DAMAGE, error.end


codecs.register_error("damaged", _damaged)


def encoding_of(head: bytes) -> str:
    """Return the encoding of a file by its first four bytes; without a mark, UTF-8."""
    return next((name for mark, name in MARKS.items() if head.startswith(mark)), "utf-8")


def _errors(encoding: str) -> str:
    return "surrogateescape" if encoding.startswith("utf-8") else "damaged"


def open_text(path: Path, newline: str = "\n") -> TextIO:
    """Open a file whose lines may hold what `readable` refuses, so that it costs only those."""
    with path.open("rb") as file:
        encoding = encoding_of(file.read(4))
    return path.open(encoding=encoding, errors=_errors(encoding), newline=newline)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line) of what is not blank; marks of joined files are left out.

    Lines may hold what `readable` refuses.
    """
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if text := line.removeprefix("\ufeff").strip():
                yield number, text


def readable(text: str) -> str:
    """Return the text.

    Raises:
        RowError: it was not in the encoding of its file.
    """
    if found := _WRONG.search(text):
        if found[0] == "\0":
            raise RowError("the text has null characters; save the file as UTF-8")
        if found[0] == DAMAGE:
            raise RowError("the text is damaged, or not in the encoding that its file begins with")
        raise RowError(f"byte 0x{ord(found[0]) - 0xDC00:02x} is not UTF-8; save the file as UTF-8")
    return text


def decoded(data: bytes) -> str:
    """Return the text of a small file.

    Raises:
        RowError: it is not in UTF-8, nor in what its first bytes say.
    """
    encoding = encoding_of(data)
    return readable(data.decode(encoding, _errors(encoding)))
