"""Files of one json object a line that only ever grow, such as logs and stored answers."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file, if there is one; a line that a kill cut short is left out."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row


def append_lines(path: Path, rows: Iterable[dict[str, Any]], sync: bool = True) -> None:
    """Add rows, and see them to the disk unless `sync` is False: shared disks take their time.

    If a kill cut the last line short, it is ended first, lest it spoil the first of the rows.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    with path.open("a+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            text = text if file.read(1) == b"\n" else "\n" + text
        file.write(text.encode())
        file.flush()
        if sync:
            os.fsync(file.fileno())
