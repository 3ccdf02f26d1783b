"""A folder of images (or recordings) with captions beside them, in a table, or in classes."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

from ...shards.sample import Sample
from ..base import Build, SourceError
from .attachments import KINDS, kind_of
from .convert import Conversations, Input, RowError, said
from .encoding import decoded
from .fields import Fields, empty
from .jsonl import parsed
from .places import MEDIA, URL, Allow, Places, embedded, walk
from .rows import Draft, draft, listed, media_of, opened
from .tables import TABLES, table_rows

METADATA = tuple(f"metadata{suffix}" for suffix in TABLES)
FILE_COLUMNS = ("file_name", "file_names")
SIDES = (".json", ".txt")
CLASS = "label"
SPLITS = {"train", "test", "val", "valid", "validation", "dev"}  # folders, but not of classes


@dataclass
class ImageFolder(Conversations):
    """A folder of images with NAME.txt or NAME.json beside each, one metadata.jsonl (.csv, .tsv,
    .parquet), or one folder per class."""

    data: Annotated[Path | None, "the folder; subfolders are searched as well"] = None
    question: Annotated[str, "column of the question, or the text to ask"] = ""
    answer: Annotated[str, "column of the caption (default: caption, text, ...)"] = ""
    allow: Allow = ""

    name: ClassVar[str] = "imagefolder"

    def inputs(self, build: Build) -> Iterator[Input]:
        """Yield the rows of metadata files; in a folder without one, every image.

        Without any caption beside an image, the folder that an image is in names its class.
        """
        if self.data is None or not self.data.is_dir():
            raise SourceError("imagefolder needs --data FOLDER")
        found = list(walk(self.data))
        media = [path for path in found if kind_of(path.name)]
        tables = [path for name in METADATA for path in found if path.name == name]
        if not media and not tables:
            suffixes = ", ".join(f".{suffix}" for suffix in KINDS)
            raise SourceError(f"--data {self.data}: no file or folder of {suffixes} files")
        used: set[Path] = set()
        if tables:
            used.update(tables)
            for path in tables:
                yield from self._table(path, used, build)
        else:
            yield from self._files(media, set(found), used, build)
        for path in found:
            if path not in used:
                self._left(path, bool(tables), build)

    def _table(self, path: Path, used: set[Path], build: Build) -> Iterator[Input]:
        root = self.data or Path()
        places = Places.of(root, self.allow)
        for where, given in table_rows(path, "--data", build):
            row = _from(given, path.parent.relative_to(root))
            media = _media(opened(row))
            if not media:
                columns = " or ".join((*FILE_COLUMNS, "image"))
                build.skip(where, f"it names no file under {columns}")
                continue
            names = [name for _, value in media if (name := _name(value))]
            used.update(Path(os.path.normpath(root / name)) for name in names)
            yield self._input(where, row, names[0] if names else "", places, build)

    def _input(
        self, where: str, row: dict[str, Any], name: str, places: Places, build: Build
    ) -> Input:
        names = listed(partial(self._draft, row), places, build)
        meta = {"kind": "caption", "id": name}
        return Input(where, names or (name or said(row),), partial(self._sample, row, places, meta))

    def _files(
        self, media: list[Path], found: set[Path], used: set[Path], build: Build
    ) -> Iterator[Input]:
        root = self.data or Path()
        places = Places.of(root, self.allow)
        sides = {p: [s for s in map(p.with_suffix, SIDES) if s in found] for p in media}
        classes = () if any(sides.values()) else _classes(root, media)
        if classes:
            names = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
            build.say(f"no captions beside the files of {root}: its folders are classes: {names}")
        for path in media:
            used.add(path)
            name = str(path.relative_to(root))
            row: dict[str, Any] = {"file_name": name}
            if classes and path.parent != root:
                row[CLASS] = path.parent.name
            elif sides[path]:
                used.update(sides[path])
                build.unused(*(f"{s.suffix} beside {SIDES[0]}" for s in sides[path][1:]), of="file")
                try:
                    row = _beside(sides[path][0]) | row
                except (RowError, OSError) as error:
                    build.skip(name, str(error))
                    continue
            else:
                build.skip(name, "no .txt or .json with its name beside it")
                continue
            yield self._input(name, row, name, places, build)

    def _left(self, path: Path, tables: bool, build: Build) -> None:
        """Name or count a file that is in no sample."""
        name = str(path.relative_to(self.data or Path()))
        if kind_of(path.name) and tables:
            build.skip(name, "no row of a metadata file names it")
        elif path.suffix in SIDES and not tables:
            build.skip(name, "no image or recording has its name")
        else:
            build.unused(path.suffix.lower() or path.name, of="file")

    def _draft(self, row: dict[str, Any]) -> Draft:
        fields = opened(row)
        media = _media(fields)
        for kind, value in media:
            if not kind:
                raise RowError(f"file {value!r}: its suffix is not that of image, audio or video")
        return draft(fields, media, self.question, self.answer)

    def _sample(self, row: dict[str, Any], places: Places, meta: dict[str, Any]) -> Sample:
        return self._draft(row).sample(places, meta)


def _classes(root: Path, media: list[Path]) -> tuple[str, ...]:
    """Return the names of the folders that hold media, where they can be names of classes."""
    names = {path.parent.name for path in media if path.parent != root}
    return tuple(sorted(names)) if len(names) > 1 and not names <= SPLITS else ()


def _media(row: Fields) -> list[tuple[str, Any]]:
    """Return (kind, value) of a row's files: by their suffix, or by the name of the column."""
    given = row.first(*FILE_COLUMNS)
    if given is None:
        return media_of(row, MEDIA)
    names = given if isinstance(given, list) else [given]
    return [(kind_of(str(name)) or "", name) for name in names if not empty(name)]


def _name(value: Any) -> str:
    """Return the name of a file, "" for a medium that the row holds itself."""
    try:
        data, name = embedded(value)
    except RowError:
        return ""
    return name if data is None else ""


def _from(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a row whose names of files start from --data and not from its table's folder."""

    def joined(value: Any) -> Any:
        if isinstance(value, list):
            return [joined(item) for item in value]
        name = _name(value)
        if not name or URL.match(name):
            return value
        return (
            value | {"path": str(folder / name)} if isinstance(value, dict) else str(folder / name)
        )

    columns = {*FILE_COLUMNS, *(name for names in MEDIA.values() for name in names)}
    return {name: joined(v) if name in columns else v for name, v in row.items()}


def _beside(path: Path) -> dict[str, Any]:
    """Read the columns beside an image; a text file is one of the name "text"."""
    try:
        text = decoded(path.read_bytes())
        if path.suffix == ".txt":
            return {"text": text.rstrip("\r\n")}
        row = parsed(text)
    except RowError as error:
        raise RowError(f"{path.name}: {error}") from error
    return row if isinstance(row, dict) else {"text": row}
