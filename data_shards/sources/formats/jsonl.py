"""Rows of a JSON or JSONL file; what is no row is named and left out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..base import Build, SourceError


def json_rows(path: Path, option: str, build: Build) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("FILE:row or line", row) of each row that is an object.

    Raises:
        SourceError: there is no such file, or a JSON list that cannot be parsed; names `option`.
    """
    if not path.is_file():
        raise SourceError(f"{option} {path}: no such file")
    with path.open("rb") as file:
        listed = file.read(4096).lstrip().startswith(b"[")
    for number, row in _list(path) if listed else _lines(path, build):
        where = f"{path.name}:{number}"
        if isinstance(row, dict):
            yield f"{where} (id {row['id']})" if "id" in row else where, row
        else:
            build.skip(where, "the row is not an object")


def _list(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        yield from enumerate(json.loads(path.read_bytes()))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not readable json: {error}") from error


def _lines(path: Path, build: Build) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                build.skip(f"{path.name}:{number}", f"not readable json: {error}")
