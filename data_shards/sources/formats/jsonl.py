"""Rows of a JSON or JSONL file; what is no row is named and left out."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..base import Build, SourceError
from .convert import RowError
from .encoding import decoded, lines, open_text, readable


def json_rows(path: Path, option: str, build: Build) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("FILE:row or line", row) of each row that is an object.

    Raises:
        SourceError: there is no such file, or a JSON list that cannot be parsed; names `option`.
    """
    if not path.is_file():
        raise SourceError(f"{option} {path}: no such file")
    rows = _whole(path) if _is_list(path) else _objects(path, build)
    for number, row in _lines(path, build) if rows is None else rows:
        where = f"{path.name}:{number}"
        if isinstance(row, dict):
            yield f"{where} (id {row['id']})" if "id" in row else where, row
        else:
            build.skip(where, "the row is not an object")


def parsed(text: str) -> Any:
    """Return what a JSON text says.

    Raises:
        RowError: it is not JSON, or not in the encoding of its file.
    """
    try:
        return json.loads(readable(text))
    except (json.JSONDecodeError, RecursionError) as error:
        raise RowError(f"not readable json: {error}") from error


def _is_list(path: Path) -> bool:
    with open_text(path) as file:
        return file.read(4096).lstrip("\ufeff \t\r\n").startswith("[")


def _whole(path: Path) -> Iterator[tuple[int, Any]]:
    """Return the rows of a list; what is wrong with the text is named with its line."""
    try:
        return enumerate(parsed(decoded(path.read_bytes())))
    except RowError as error:
        raise SourceError(f"{path}: {error}{_line_of(path)}") from error


def _objects(path: Path, build: Build) -> Iterator[tuple[int, Any]] | None:
    """Return the rows of a file that is one object, and None for one of lines.

    They are the list under "data", or else the values where all are objects, as where rows
    have keys, or else the object itself.
    """
    head = list(itertools.islice(lines(path), 2))
    if len(head) == 2 and _is_json(head[0][1]):
        return None
    try:
        found = parsed(decoded(path.read_bytes()))
    except RowError:
        return None  # its lines are named one by one
    values = found
    if isinstance(found, dict) and isinstance(found.get("data"), list):
        values = found["data"]
        build.unused(*(key for key in found if key != "data"), of="file")
    if isinstance(values, dict) and values and all(isinstance(v, dict) for v in values.values()):
        values = [{"id": key} | row for key, row in values.items()]
    if values is found:
        return enumerate([found], 1)
    return enumerate(values if isinstance(values, list) else [values])


def _is_json(text: str) -> bool:
    try:
        parsed(text)
    except RowError:
        return False
    return True


def _line_of(path: Path) -> str:
    for number, text in lines(path):
        try:
            readable(text)
        except RowError:
            return f" (line {number})"
    return ""


def _lines(path: Path, build: Build) -> Iterator[tuple[int, Any]]:
    for number, line in lines(path):
        try:
            yield number, parsed(line)
        except RowError as error:
            build.skip(f"{path.name}:{number}", str(error))
