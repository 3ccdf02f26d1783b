"""Parquet files, local or of a dataset on the Hugging Face hub, with columns named by options."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path, PurePath
from threading import Lock
from typing import Annotated, Any, ClassVar

from ...shards.sample import Sample
from ..base import Build, SourceError, SourceUnavailable
from .attachments import KINDS, PREFIX
from .convert import Conversations, Input, RowError, said
from .fields import Fields
from .places import MEDIA, Allow, Places, walk
from .rows import Draft, draft, listed, media_of, opened
from .tables import class_names, features, with_classes

TYPES = {"Image": "image", "Audio": "audio", "Video": "video"}  # of HF datasets
GROUPS_KEPT = 2  # row groups in memory: rows are made in order, so two are enough


@dataclass
class HuggingFace(Conversations):
    """Parquet files, local or of a dataset on the hub; columns are mapped by options."""

    data: Annotated[Path | None, "a parquet file, or a folder of them"] = None
    hub: Annotated[str, "or a hub dataset, ORG/NAME, whose parquet files are fetched"] = ""
    revision: Annotated[
        str, "of the hub dataset; refs/convert/parquet holds those not in parquet themselves"
    ] = "main"
    pattern: Annotated[str, "only files whose path matches, such as '*/train-*'"] = "*"
    image: Annotated[
        str, "columns of images, comma-separated (default: image, images, ..., or by type)"
    ] = ""
    audio: Annotated[str, "columns of audio (default: audio, speech, ..., or by type)"] = ""
    video: Annotated[str, "columns of video (default: video, videos, ..., or by type)"] = ""
    question: Annotated[str, "column of the question, or the text to ask"] = ""
    answer: Annotated[str, "column of the answer (default: conversations, then caption, ...)"] = ""
    identity: Annotated[str, "column that must not be in both splits, besides equal media"] = ""
    allow: Allow = ""

    name: ClassVar[str] = "hf"

    def inputs(self, build: Build) -> Iterator[Input]:
        """Yield every row; files are read once more for that, because equal media share a split."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        for where, path in self._files(build):
            try:
                file = pq.ParquetFile(path)
            except (pa.ArrowException, OSError) as error:
                build.skip(where, f"not readable parquet: {error}")
                continue
            groups, row = _Groups(path, self._columns(file.schema_arrow)), 0
            places = Places.of(path.parent, self.allow)
            for number in range(file.num_row_groups):
                count = file.metadata.row_group(number).num_rows
                try:
                    names = list(self._names(file.read_row_group(number), groups, places, build))
                except (pa.ArrowException, OSError) as error:
                    rows = f"{row} to {row + count - 1}"
                    build.skip(f"{where}:{rows}", f"row group {number} is not readable: {error}")
                    names = []
                for offset, found in enumerate(names):
                    make = partial(self._sample, groups, number, offset, places)
                    yield Input(f"{where}:{row + offset}", found, make)
                row += count

    def _files(self, build: Build) -> Iterator[tuple[str, Path]]:
        """Yield (path below the root, path) of every file that matches the pattern."""
        if bool(self.data) == bool(self.hub):
            raise SourceError("hf needs either --data FILE or FOLDER, or --hub ORG/NAME")
        root = self.data or _fetch(self.hub, self.revision, self.pattern)
        if root.is_file():
            yield root.name, root
            return
        found = {path.relative_to(root).as_posix(): path for path in walk(root)}
        tables = {name: path for name, path in found.items() if name.lower().endswith(".parquet")}
        if not tables:
            raise SourceError(f"hf --data {root}: no file or folder of .parquet files")
        for name in found.keys() - tables.keys():
            build.unused(PurePath(name).suffix.lower() or name, of="file")
        chosen = [name for name in sorted(tables) if fnmatch(name, _parquet(self.pattern))]
        if not chosen:
            raise SourceError(f"--pattern {self.pattern!r} matches no parquet file in {root}")
        yield from ((name, tables[name]) for name in chosen)

    def _columns(self, schema: Any) -> "_Columns":
        """Return which columns of a file hold media.

        Raises:
            SourceError: an option names none that is there.
        """
        have = schema.names
        if self.identity and self.identity not in have:
            raise SourceError(f"--identity {self.identity!r}: the columns are {', '.join(have)}")
        known, named, typed = {}, {}, features(schema)
        for kind in PREFIX:
            option = getattr(self, kind)
            if option:
                wanted = [column.strip() for column in option.split(",")]
                named[kind] = [column for column in wanted if column in have]
                if not named[kind]:
                    raise SourceError(f"--{kind} {option!r}: the columns are {', '.join(have)}")
                continue
            known[kind] = [*MEDIA[kind], *(suffix for suffix, of in KINDS.items() if of == kind)]
            if not set(known[kind]) & set(have):
                known[kind], named[kind] = [], [c for c in have if _type(typed.get(c)) == kind]
        return _Columns(known, named, class_names(schema))

    def _names(
        self, table: Any, groups: "_Groups", places: Places, build: Build
    ) -> Iterator[tuple[str, ...]]:
        """Yield what each row is known by: its media, and what --identity names."""
        for batch in table.to_batches(max_chunksize=64):
            for row in map(groups.columns.read, batch.to_pylist()):
                names = [f"{self.identity} {row[self.identity]}"] if self.identity else []
                names += listed(partial(self._draft, row, groups.columns), places, build)
                yield tuple(names) or (said(row),)

    def _draft(self, row: dict[str, Any], columns: "_Columns") -> Draft:
        fields = opened(row)
        if self.identity:
            fields.get(self.identity)
        media = columns.media(fields)
        return draft(fields, media, self.question, self.answer)

    def _sample(self, groups: "_Groups", number: int, offset: int, places: Places) -> Sample:
        row = groups.row(number, offset)
        meta = {"kind": "conversation", "id": str(row.get("id", ""))}
        return self._draft(row, groups.columns).sample(places, meta)


@dataclass(frozen=True)
class _Columns:
    """The columns of a file: media by kind, and names of classes by column.

    Of `known` columns of a kind the first that is not empty is shown, of `named` ones all.
    """

    known: dict[str, list[str]]
    named: dict[str, list[str]]
    classes: dict[str, list[str]]

    def media(self, row: Fields) -> list[tuple[str, Any]]:
        """Return (kind, value) of a row's media."""
        found = [*media_of(row, self.known), *media_of(row, self.named, all_of=True)]
        return sorted(found, key=lambda medium: list(PREFIX).index(medium[0]))

    def read(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row as it is meant."""
        return with_classes(row, self.classes)


def _type(feature: Any) -> str | None:
    """Return the kind of media that HF datasets says a column holds, one or a list of them."""
    while isinstance(feature, list):
        feature = feature[0] if feature else None
    if not isinstance(feature, dict):
        return None
    inner = feature.get("feature")
    return _type(inner) if inner else TYPES.get(str(feature.get("_type")))


class _Groups:
    """The row groups of a parquet file; those read last are kept for the rows that follow."""

    def __init__(self, path: Path, columns: _Columns):
        self.path, self.columns, self._lock, self._kept = path, columns, Lock(), {}

    def row(self, number: int, offset: int) -> dict[str, Any]:
        """Return one row as column -> value."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with self._lock:
            if number not in self._kept:
                while len(self._kept) >= GROUPS_KEPT:
                    self._kept.pop(min(self._kept))
                try:
                    self._kept[number] = pq.ParquetFile(self.path).read_row_group(number)
                except pa.ArrowException as error:
                    raise RowError(f"row group {number} is not readable: {error}") from error
            table = self._kept[number]
        return self.columns.read(table.slice(offset, 1).to_pylist()[0])


def _parquet(pattern: str) -> str:
    return pattern if pattern.endswith(".parquet") else f"{pattern.removesuffix('*')}*.parquet"


def _fetch(hub: str, revision: str, pattern: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        path = snapshot_download(
            hub, repo_type="dataset", revision=revision, allow_patterns=_parquet(pattern)
        )
    except Exception as error:  # the hub's client raises errors of many libraries
        raise SourceUnavailable(
            f"the dataset {hub} could not be fetched: {error}. To supply it by hand, put its "
            "parquet files in a folder and pass --data FOLDER"
        ) from error
    return Path(path)
