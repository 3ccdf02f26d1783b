"""A build in parts: rows are made wherever there is a machine, and merged to the same bytes.

1. The rows of a source are numbered, and cut into chunks of consecutive ones. How depends on their
   number alone, so any parts of any build of that source fit together.
2. A chunk is one file in `OUT.parts`, there whole or not at all: what its rows became, samples and
   reasons, as they were made. So a part that was killed goes on, and two that make the same chunk
   write the same bytes.
3. Whatever depends on other rows (keys, shards, their sizes, checksums) is left to the merge, which
   writes rows in order through the code of a build that was never divided.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from omni.files.atomic import replacing, write_text

from .build import (
    Order,
    OtherBuild,
    Outcome,
    fill,
    kept,
    list_rows,
    outcomes,
    paths,
    progress,
    say_on,
)
from .build import request as request_of
from .shards.manifest import read_manifest
from .shards.sample import Sample
from .shards.write import SHARD_SAMPLES
from .sources import Build, SourceOptions
from .sources.formats.convert import Row, RowError

HEAD = "build.json"
CHUNKS, MOST_ROWS = 64, 1000  # chunks of a small source, and rows in a chunk of a large one


@dataclass
class Head:
    """What all parts of a build agree on."""

    version: str
    request: dict[str, Any]
    paths: dict[str, str]
    rows: int
    licenses: dict[str, str]
    facts: dict[str, Any]
    skipped: list[str]
    """what could not even be listed"""

    @property
    def size(self) -> int:
        """Return the rows of a chunk."""
        return min(max(1, -(-self.rows // CHUNKS)), MOST_ROWS)

    @property
    def chunks(self) -> int:
        return -(-self.rows // self.size)

    def span(self, chunk: int) -> tuple[int, int]:
        """Return the rows of a chunk, (first, end)."""
        return chunk * self.size, min((chunk + 1) * self.size, self.rows)


class Parts:
    """The chunks beside a set of shards that is to be, in the folder `OUT.parts`."""

    def __init__(self, out: Path):
        self.folder = out.parent / f"{out.name}.parts"

    def head(self) -> Head | None:
        """Return what the parts here are of, None where there are none."""
        path = self.folder / HEAD
        if not path.is_file():
            return None
        try:
            return Head(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise OtherBuild(f"{path} cannot be read ({error}); remove {self.folder}") from error

    def begin(self, head: Head) -> None:
        """Note what is built here.

        Raises:
            OtherBuild: parts of something else are here.
        """
        there = self.head()
        if there is None:
            text = json.dumps(asdict(head))  # names of files may be in any encoding: escaped
            write_text(self.folder / HEAD, text, shared=True)
        elif differs := _differing(there, head):
            raise OtherBuild(
                f"{self.folder} holds parts of another build ({differs}); remove it, or choose "
                "another --out"
            )

    def chunk(self, number: int) -> Path:
        return self.folder / f"rows-{number:08d}"

    def finished(self) -> dict[int, Path]:
        """Return the chunks that are there, by number."""
        return {int(path.name[5:]): path for path in sorted(self.folder.glob("rows-????????"))}


def _differing(one: Head, other: Head) -> str:
    """Name what differs between two heads; "" if nothing does."""
    pairs = [(name, getattr(one, name), getattr(other, name)) for name in asdict(one)]
    return ", ".join(name for name, ours, theirs in pairs if not _equal(ours, theirs))


def _equal(one: Any, other: Any) -> bool:
    """Compare as json does, to which a tuple is a list."""
    return json.dumps(one) == json.dumps(other)


@dataclass
class Task:
    """A source whose rows are listed: what there is to make, and where."""

    head: Head
    rows: list[Row]
    parts: Parts

    def todo(self, part: int = 1, of: int = 1) -> list[int]:
        """Return the chunks of a part that are not there yet."""
        all_of_it = range(self.head.chunks * (part - 1) // of, self.head.chunks * part // of)
        there = self.parts.finished()
        return [chunk for chunk in all_of_it if chunk not in there]


def prepare(
    source: SourceOptions, out: Path, seed: int, heldout: float, shard_samples: int,
    force: bool, console: Console,
) -> Task | None:  # fmt: skip
    """List the rows of a source, and note what is built; None if `out` holds it already.

    Raises:
        OtherBuild: `out` (unless `force` is given), or its parts, are of something else.
        SourceUnavailable, SourceError: as `build`.
    """
    say = say_on(console)
    wanted = request_of(source, seed, heldout, shard_samples)
    if not force and kept(out, wanted, say):
        return None
    note = Build(seed=seed, heldout=heldout, say=say)
    note.licenses.update(source.licenses)
    rows = list(list_rows(source, note))
    head = Head(version("omni-stages"), wanted, paths(source, wanted), len(rows),
                note.licenses, note.facts, note.skipped)  # fmt: skip
    parts = Parts(out)
    parts.begin(head)
    return Task(head, rows, parts)


def build_part(
    source: SourceOptions, out: Path, part: int, of: int, seed: int = 0, heldout: float = 0.15,
    force: bool = False, console: Console | None = None, jobs: int = 1,
    shard_samples: int = SHARD_SAMPLES,
) -> None:  # fmt: skip
    """Make the samples of one part of the rows, from 1 to `of`; `merge` makes shards of all.

    Raises:
        OtherBuild, SourceUnavailable, SourceError: as `prepare`.
    """
    console = console or Console(stderr=True)
    task = prepare(source, out, seed, heldout, shard_samples, force, console)
    if task is None:
        return
    todo = task.todo(part, of)
    with progress(console) as bar:
        shown = bar.add_task(f"part {part} of {of}", total=len(todo))
        for chunk in todo:
            first, end = task.head.span(chunk)
            rows = enumerate(task.rows[first:end], first)
            write_chunk(task.parts.chunk(chunk), outcomes(rows, jobs))
            bar.update(shown, advance=1)
    there, chunks = len(task.parts.finished()), task.head.chunks
    say_on(console)(
        f"{task.parts.folder}: part {part} of {of} is made, {there:,} of {chunks:,} chunks are "
        f"there; with all of them: omni-shards merge {out}"
    )


def merge(
    folders: Sequence[Path], out: Path, force: bool = False, console: Console | None = None
) -> dict[str, Any]:
    """Write shards of the parts beside `folders` to `out`, return the manifest, remove the parts.

    Raises:
        FileNotFoundError: there are no parts, or some are missing; says which rows.
        OtherBuild: parts of different builds, or `out` holds another and `force` is not given.
        SourceError: no row made a sample.
    """
    console = console or Console(stderr=True)
    found = [Parts(folder) for folder in folders]
    manifest = read_manifest(out)
    if manifest and [*folders] == [out] and not found[0].folder.exists():
        say_on(console)(f"{out}: its parts were merged already")
        return manifest
    head = _common_head(found)
    chunks: dict[int, Path] = {}
    for parts in found:
        chunks |= parts.finished()
    missing = [chunk for chunk in range(head.chunks) if chunk not in chunks]
    if missing:
        first, end = head.span(missing[0])
        raise FileNotFoundError(
            f"{len(missing):,} of {head.chunks:,} chunks are missing, the first of rows {first:,} "
            f"to {end - 1:,} of {head.rows:,}; run their parts again, or --part 1/1, which makes "
            "what is missing"
        )
    note = Build(say=say_on(console), total=head.rows, skipped=list(head.skipped),
                 licenses=head.licenses, facts=head.facts)  # fmt: skip
    files = [chunks[number] for number in range(head.chunks)]
    order = Order(head.request, head.paths, note, partial(_read_all, files))
    manifest = fill(out, head.request, force, console, lambda: order)
    for parts in found:
        shutil.rmtree(parts.folder)
    return manifest


def _common_head(found: Iterable[Parts]) -> Head:
    common: tuple[Parts, Head] | None = None
    for parts in found:
        head = parts.head()
        if head is None:
            raise FileNotFoundError(
                f"{parts.folder} is not there: run `omni-shards build SOURCE ... --part i/n` first"
            )
        common = common or (parts, head)
        if differs := _differing(common[1], head):
            raise OtherBuild(
                f"{common[0].folder} and {parts.folder} are parts of different builds ({differs})"
            )
    assert common
    return common[1]


def _read_all(files: Iterable[Path], next_row: Callable[[str], int]) -> Iterator[Outcome]:
    """Read chunks in order; rows before the first of their split that is wanted are left out."""
    done: dict[str, int] = {}
    for path in files:
        for outcome in read_chunk(path):
            if outcome.number >= done.setdefault(outcome.split, next_row(outcome.split)):
                yield outcome


def write_chunk(path: Path, found: Iterable[Outcome]) -> None:
    """Write what rows became: for each a line of json, and behind it the media of its sample."""
    with replacing(path, shared=True) as scratch, scratch.open("wb") as file:
        for number, where, split, made in found:
            told: dict[str, Any] = {"row": number, "where": where, "split": split}
            parts: dict[str, bytes] = {}
            if isinstance(made, Sample):
                parts = made.parts
                told["sample"] = {name: getattr(made, name) for name in
                                  ("messages", "meta", "key", "chosen", "rejected")}  # fmt: skip
                told["parts"] = [(name, len(data)) for name, data in parts.items()]
            else:
                told["reason"] = str(made)
            # escaped, so that half a surrogate pair comes back as it was
            file.write(json.dumps(told).encode("ascii") + b"\n")
            file.writelines(parts.values())


def read_chunk(path: Path) -> Iterator[Outcome]:
    """Read what `write_chunk` wrote."""
    with path.open("rb") as file:
        while line := file.readline():
            told = json.loads(line)
            made: Sample | Exception
            if "sample" in told:
                parts = {name: file.read(size) for name, size in told["parts"]}
                made = Sample(parts=parts, **told["sample"])
            else:
                made = RowError(told["reason"])
            yield Outcome(told["row"], told["where"], told["split"], made)
