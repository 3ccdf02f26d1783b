"""Ogg files behind one another, which is what a chained Ogg is (RFC 3533)."""

from collections.abc import Iterator

_BEGIN = 2  # flag of the first page of a stream


def links(data: bytes) -> Iterator[bytes]:
    """Yield each of the files that were chained, whole; most Oggs are one.

    The streams of one link begin together. What is not a page, as between files that were
    joined, belongs to the link before it.
    """
    first, at, begun = 0, 0, True
    while (at := data.find(b"OggS", at)) >= 0 and at + 27 <= len(data):
        begins = bool(data[at + 5] & _BEGIN)
        if begins and not begun:
            yield data[first:at]
            first = at
        begun = begins
        table = data[at + 27 : at + 27 + data[at + 26]]
        at += 27 + len(table) + sum(table)
    yield data[first:]
