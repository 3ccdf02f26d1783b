"""Tables of rows: csv, tsv and parquet files, and json beside them."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..base import Build, SourceError
from .encoding import open_text
from .jsonl import json_rows

DELIMITERS = (",", ";", "\t", "|")
TABLES = (".jsonl", ".csv", ".tsv", ".parquet")
NULLS = ("", None)


def table_rows(path: Path, option: str, build: Build) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("FILE:row or line", row) of a table, by its suffix, one of TABLES.

    Raises:
        SourceError: the table cannot be read at all.
    """
    if path.suffix == ".parquet":
        yield from _parquet(path)
    elif path.suffix in (".csv", ".tsv"):
        yield from _csv(path, build)
    else:
        yield from json_rows(path, option, build)


def _csv(path: Path, build: Build) -> Iterator[tuple[str, dict[str, Any]]]:
    with open_text(path, newline="") as file:
        head = file.readline()
        file.seek(0)
        # what the first line has most of separates the columns: Excel saves ";" in many countries
        tabs = path.suffix == ".tsv"
        delimiter = "\t" if tabs else max(DELIMITERS, key=head.count)
        quoting = csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
        csv.field_size_limit(1 << 24)
        reader = csv.DictReader(file, delimiter=delimiter, quoting=quoting)
        try:
            reader.fieldnames = [n.removeprefix("\ufeff").strip() for n in reader.fieldnames or ()]
            for row in reader:
                where = f"{path.name}:{reader.line_num}"
                if None in row:
                    build.skip(where, "it has more cells than the first line")
                    continue
                yield where, {name: cell for name, cell in row.items() if cell not in NULLS}
        except csv.Error as error:
            raise SourceError(f"{path}:{reader.line_num + 1}: not readable csv: {error}") from error


def _parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        classes, number = class_names(file.schema_arrow), 0
        for batch in file.iter_batches(64):
            for row in batch.to_pylist():
                yield f"{path.name}:{number}", with_classes(row, classes)
                number += 1
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path} is not readable parquet: {error}") from error


def features(schema: Any) -> dict[str, Any]:
    """Return what HF datasets says of a parquet file's columns: name -> feature."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def class_names(schema: Any) -> dict[str, list[str]]:
    """Return the names of the classes that columns of a parquet file hold as numbers."""
    found = {}
    for name, feature in features(schema).items():
        inner = feature
        while isinstance(inner, list | dict):  # a list of classes is [feature] or a Sequence
            if isinstance(inner, dict) and isinstance(inner.get("names"), list):
                found[name] = [str(label) for label in inner["names"]]
                break
            inner = inner[0] if isinstance(inner, list) and inner else (
                inner.get("feature") if isinstance(inner, dict) else None)  # fmt: skip
    return found


def with_classes(row: dict[str, Any], classes: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return a row with the names of classes; a number that has no name (-1) is none at all."""

    def named(value: Any, names: list[str]) -> Any:
        if isinstance(value, list):
            return [named(item, names) for item in value]
        if isinstance(value, int):
            return names[value] if 0 <= value < len(names) else None
        return value

    if not classes:
        return row
    return {c: named(v, classes[c]) if c in classes else v for c, v in row.items()}
