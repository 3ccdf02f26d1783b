"""Files and folders that are there whole or not at all: written beside, flushed, renamed."""

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4


@contextmanager
def replacing(target: Path, shared: bool = False) -> Iterator[Path]:
    """Yield a free path beside `target`; the file or folder written there then takes its place.

    An error or a kill leaves what was there before. What a kill left half written is removed by
    the next writer, except with `shared`: others may be writing the same target now, so that each
    needs a name of its own, and the last one to finish wins.
    """
    own = f".{uuid4().hex[:8]}" if shared else ""
    scratch = target.with_name(f".{target.name}{own}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove(scratch)
    try:
        yield scratch
        put_in_place(scratch, target)
    finally:
        _remove(scratch)


def put_in_place(scratch: Path, target: Path) -> None:
    """Flush a file, or a folder and all in it, to the disk, and rename it to `target`."""
    paths = [path for path in (*scratch.rglob("*"), scratch) if not path.is_symlink()]
    with ThreadPoolExecutor(16) as threads:  # disks flush many files at once in the time of few
        list(threads.map(flush, paths))
    if target.is_dir():  # a rename replaces files only
        shutil.rmtree(target, ignore_errors=True)
    scratch.replace(target)
    flush(target.parent)


def flush(path: Path) -> None:
    """See a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str, shared: bool = False) -> None:
    """Write a text file in UTF-8, whole or not at all; for `shared` see `replacing`."""
    with replacing(path, shared) as scratch:
        scratch.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any, shared: bool = False) -> None:
    """Write a json file, whole or not at all; for `shared` see `replacing`."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False), shared)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
