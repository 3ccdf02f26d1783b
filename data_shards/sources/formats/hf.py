"""Parquet files, local or of a dataset on the Hugging Face hub, with columns named by options."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, ClassVar

from ...shards.sample import Sample
from ..base import Build, SourceError, SourceUnavailable
from .attachments import Attachments, content, inside, kind_of, load
from .convert import Converter, Input, RowError, files, said
from .turns import described

GROUPS_KEPT = 2  # row groups in memory: rows are made in order, so two are enough


@dataclass
class HuggingFace(Converter):
    """Parquet files, local or of a dataset on the hub; columns are mapped by options."""

    data: Annotated[Path | None, "a parquet file, or a folder of them"] = None
    hub: Annotated[str, "or a hub dataset, ORG/NAME, whose parquet files are fetched"] = ""
    revision: Annotated[
        str, "of the hub dataset; refs/convert/parquet holds those not in parquet themselves"
    ] = "main"
    pattern: Annotated[str, "only files whose path matches, such as '*/train-*'"] = "*"
    image: Annotated[str, "columns of an image or a list of them, comma-separated"] = "image,images"
    audio: Annotated[str, "columns of audio"] = "audio"
    video: Annotated[str, "columns of video"] = "video,videos"
    question: Annotated[str, "column of the question, or the text to ask"] = ""
    answer: Annotated[str, "column of the answer (default: conversations, then caption, ...)"] = ""
    identity: Annotated[str, "column that must not be in both splits, besides equal media"] = ""

    name: ClassVar[str] = "hf"

    def inputs(self, build: Build) -> Iterator[Input]:
        """Yield every row; files are read once more for that, because equal media share a split."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        for where, path in self._files():
            try:
                file = pq.ParquetFile(path)
            except (pa.ArrowException, OSError) as error:
                build.skip(where, f"not readable parquet: {error}")
                continue
            groups, row = _Groups(path), 0
            for number in range(file.num_row_groups):
                count = file.metadata.row_group(number).num_rows
                try:
                    names = list(self._names(file.read_row_group(number)))
                except (pa.ArrowException, OSError) as error:
                    rows = f"{row} to {row + count - 1}"
                    build.skip(f"{where}:{rows}", f"row group {number} is not readable: {error}")
                    names = []
                for offset, found in enumerate(names):
                    make = partial(self._sample, groups, number, offset)
                    yield Input(f"{where}:{row + offset}", found, make)
                row += count

    def _files(self) -> Iterator[tuple[str, Path]]:
        """Yield (path below the root, path) of every file that matches the pattern."""
        if bool(self.data) == bool(self.hub):
            raise SourceError("hf needs either --data FILE or FOLDER, or --hub ORG/NAME")
        root = self.data or _fetch(self.hub, self.revision, self.pattern)
        count = 0
        for path in files(root, "hf --data", (".parquet",)):
            name = path.name if path == root else path.relative_to(root).as_posix()
            if path == root or fnmatch(name, _parquet(self.pattern)):
                yield name, path
                count += 1
        if not count:
            raise SourceError(f"--pattern {self.pattern!r} matches no parquet file in {root}")

    def _media(self, columns: list[str]) -> list[tuple[str, str]]:
        """Return (column, kind) of the media columns that are there."""
        wanted = {"image": self.image, "audio": self.audio, "video": self.video}
        named = [(c.strip(), kind) for kind, text in wanted.items() for c in text.split(",")]
        return [(column, kind) for column, kind in named if column in columns]

    def _names(self, table: Any) -> Iterator[tuple[str, ...]]:
        """Yield what the media of each row are known by."""
        have = table.column_names
        if self.identity and self.identity not in have:
            raise SourceError(f"--identity {self.identity!r}: the columns are {', '.join(have)}")
        media = [column for column, _ in self._media(have)]
        for batch in table.to_batches(max_chunksize=64):
            for row in batch.to_pylist():
                names = [f"{self.identity} {row[self.identity]}"] if self.identity else []
                for value in (v for column in media for v in _values(row[column])):
                    data = value.get("bytes") if isinstance(value, dict) else value
                    names.append(content(data) if isinstance(data, bytes) else said(value))
                yield tuple(names) or (said(row),)

    def _sample(self, groups: "_Groups", number: int, offset: int) -> Sample:
        row = groups.row(number, offset)
        media = Attachments()
        for column, kind in self._media(list(row)):
            for value in _values(row.pop(column)):
                media.add(kind, *_read(groups.path.parent, value))
        messages = described(row, media, self.question, self.answer)
        return Sample(messages, media.parts, {"kind": "conversation", "id": str(row.get("id", ""))})


class _Groups:
    """The row groups of a parquet file; those read last are kept for the rows that follow."""

    def __init__(self, path: Path):
        self.path, self._lock, self._kept = path, Lock(), {}

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
        return table.slice(offset, 1).to_pylist()[0]


def _values(value: Any) -> list[Any]:
    """Return the media of a cell: of one file or a list of them, none where it is empty."""
    return [v for v in (value if isinstance(value, list) else [value]) if v is not None]


def _read(root: Path, value: Any) -> tuple[bytes, str]:
    """Return (bytes, name) of a media cell: bytes, {bytes, path}, or a path below `root`."""
    if isinstance(value, bytes):
        return value, ""
    cell = value if isinstance(value, dict) else {"path": value}
    data, name = cell.get("bytes"), cell.get("path")
    if isinstance(data, bytes):
        return data, str(name or "")
    if isinstance(name, str) and kind_of(name):
        return load(inside(root, name), kind_of(name) or ""), name
    raise RowError("a media column holds neither bytes nor a path that ends as media do")


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
