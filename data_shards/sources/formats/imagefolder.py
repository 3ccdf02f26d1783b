"""A folder of images (or recordings) with captions beside them."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

from ...shards.sample import Sample
from ..base import Build, SourceError
from .attachments import KINDS, Attachments, file_names, listed
from .convert import Converter, Input, RowError, files
from .jsonl import json_rows
from .turns import described

METADATA = ("metadata.jsonl", "metadata.csv")
FILE_COLUMNS = ("file_name", "file_names", "image", "images")


@dataclass
class ImageFolder(Converter):
    """A folder of images with NAME.txt or NAME.json beside each, or one metadata.jsonl (.csv)."""

    data: Annotated[Path | None, "the folder; subfolders are searched as well"] = None
    question: Annotated[str, "column of the question, or the text to ask"] = ""
    answer: Annotated[str, "column of the caption (default: caption, text, ...)"] = ""

    name: ClassVar[str] = "imagefolder"

    def inputs(self, build: Build) -> Iterator[Input]:
        """Yield the rows of metadata files; in a folder without one, every image."""
        if self.data is None or not self.data.is_dir():
            raise SourceError("imagefolder needs --data FOLDER")
        tables = [path for name in METADATA for path in sorted(self.data.rglob(name))]
        rows = _tables(tables, build) if tables else _beside(self.data, build)
        for where, folder, row in rows:
            within = folder.relative_to(self.data)
            media = [str(within / str(name)) for name in listed(row, *FILE_COLUMNS)]
            if media:
                make = partial(self._sample, row, media)
                yield Input(where, file_names(self.data, media), make)
            else:
                build.skip(where, f"it names no file under {' or '.join(FILE_COLUMNS[:2])}")

    def _sample(self, row: dict[str, Any], names: list[str]) -> Sample:
        media = Attachments()
        media.read(self.data or Path(), "", names)
        if isinstance(row.get(SIDE), Path):
            row = row | _caption(row[SIDE])
        messages = described(row, media, self.question, self.answer)
        return Sample(messages, media.parts, {"kind": "caption", "id": str(names[0])})


SIDE = "\0beside"  # no column of a user's


def _tables(tables: list[Path], build: Build) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    for path in tables:
        if path.suffix == ".csv":
            with path.open(encoding="utf-8", errors="replace", newline="") as file:
                rows = [(f"{path.name}:{n}", row) for n, row in enumerate(csv.DictReader(file), 2)]
        else:
            rows = json_rows(path, "--data", build)
        yield from ((where, path.parent, dict(row)) for where, row in rows)


def _beside(root: Path, build: Build) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    for path in files(root, "imagefolder --data", (f".{suffix}" for suffix in KINDS)):
        name = str(path.relative_to(root))
        side = next((s for s in map(path.with_suffix, (".json", ".txt")) if s.is_file()), None)
        if side is None:
            build.skip(name, "no .txt or .json with its name beside it")
        else:
            yield name, root, {"file_name": name, SIDE: side}


def _caption(path: Path) -> dict[str, Any]:
    """Read the columns beside an image; a text file is one of the name "text"."""
    if path.suffix == ".txt":
        return {"text": path.read_text(encoding="utf-8", errors="replace")}
    try:
        row = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise RowError(f"{path.name} is not readable json: {error}") from error
    if isinstance(row, dict):
        return row
    return {"text": row}
