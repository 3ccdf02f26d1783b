"""`omni-shards build`: run a source, write its shards, and know when that was done already."""

import glob
import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from omni.files.lock import exclusive

from .index.index import build_index
from .shards.export import export
from .shards.journal import JOURNAL
from .shards.manifest import MANIFEST, read_manifest, sha256
from .shards.sample import Sample
from .shards.write import SHARD_SAMPLES, ShardSet
from .sources import Build, SourceError, SourceOptions, SourceUnavailable
from .sources.formats.convert import ROW_ERRORS, Converter, Row, attempt

SHOWN = 10
AHEAD = 4  # samples in the making per thread; what bounds memory
Made = Sample | Exception


class OtherBuild(RuntimeError):  # noqa: N818 - reads as what it is
    """The folder holds shards that were built from other options."""


def request(
    source: SourceOptions, seed: int, heldout: float, shard_samples: int = SHARD_SAMPLES
) -> dict[str, Any]:
    """Return everything that decides what a build makes.

    Inputs count by their contents, not by their paths: a data folder may be moved.
    """
    values = {f.name: getattr(source, f.name) for f in fields(source)}  # type: ignore[arg-type]
    paths = {name: v for name, v in values.items() if isinstance(v, str | Path)}
    inputs = {name: digest for name, v in paths.items() if (digest := _digest(v))}
    options = {
        name: str(v) if isinstance(v, Path) else v
        for name, v in values.items()
        if name not in inputs
    }
    wanted = {"source": source.name, "options": options, "seed": seed, "heldout": heldout}
    if shard_samples != SHARD_SAMPLES:
        wanted["shard_samples"] = shard_samples
    return {**wanted, "inputs": inputs}


def _digest(value: str | Path) -> str | None:
    """Return a digest of an input: of a file's bytes, of the names and sizes in a folder."""
    path = Path(value).expanduser()
    if path.is_file():
        return sha256(path)
    if str(value) and (path / MANIFEST).is_file():
        return sha256(path / MANIFEST)
    if isinstance(value, Path) and path.is_dir():
        found: Iterable[Path] = path.rglob("*")
    elif "*" in str(value):
        found = map(Path, glob.glob(str(path), recursive=True))
        path = path.parent  # the names that a pattern can vary stay
    else:
        return None
    files = [file for file in found if file.is_file()]
    lines = sorted(f"{os.path.relpath(file, path)} {file.stat().st_size}" for file in files)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def existing(out: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """Return the manifest at `out` if it was built from the same request, None if there is none.

    Raises:
        OtherBuild: there are shards of another request; names what differs.
    """
    manifest = read_manifest(out)
    if manifest is None:
        return None
    for name, value in wanted.items():
        had = manifest.get(name)
        if had == value:
            continue
        if isinstance(had, dict) and isinstance(value, dict):
            keys = sorted(k for k in {*had, *value} if had.get(k) != value.get(k))
            name = f"{name} {', '.join(keys)}"
            had, value = ([d.get(k) for k in keys] for d in (had, value))
        raise OtherBuild(
            f"{out} holds another build: {name} was {had}, now {value}; "
            "choose another --out, or replace it with --force"
        )
    absent = [name for name in manifest["shards"] if not (out / name).is_file()]
    if absent:
        raise OtherBuild(f"{out} lacks {', '.join(absent)}; build it again with --force")
    return manifest


def build(
    source: SourceOptions,
    out: Path,
    seed: int = 0,
    heldout: float = 0.15,
    force: bool = False,
    console: Console | None = None,
    jobs: int = 1,
    shard_samples: int = SHARD_SAMPLES,
) -> dict[str, Any]:
    """Build one set of shards at `out` and return its manifest; a finished one is kept.

    A build that was killed goes on after its last finished shards. Neither that nor `jobs`,
    the number of threads that make samples, changes a byte of the result.

    Raises:
        OtherBuild: `out` holds shards of other options and `force` is not given.
        SourceUnavailable, SourceError: nothing is written then.
    """
    console = console or Console(stderr=True)
    # names of files may hold what rich takes for markup, and wrapped paths cannot be copied
    say = partial(console.print, markup=False, emoji=False, highlight=False, soft_wrap=True)
    with exclusive(out):
        wanted = request(source, seed, heldout, shard_samples)
        manifest = None if force else existing(out, wanted)
        if manifest:
            (out / JOURNAL).unlink(missing_ok=True)  # where a kill came right after the rename
            _beside(out, missing=True)
            say(f"{out}: already built, {summary(manifest)}; kept (--force rebuilds)")
            return manifest
        note = Build(seed=seed, heldout=heldout, say=say)
        manifest = _build(source, note, out, wanted, jobs, shard_samples, console)
        _beside(out)
    _report(manifest, out, note)
    return manifest


def _beside(out: Path, missing: bool = False) -> None:
    """Write what stands beside finished shards: the index, and README.md with HF's features."""
    build_index(out)
    if not (missing and (out / "README.md").is_file()):
        export(out, "hf")


def _build(
    source: SourceOptions,
    note: Build,
    out: Path,
    wanted: dict[str, Any],
    jobs: int,
    shard_samples: int,
    console: Console,
) -> dict[str, Any]:
    note.licenses.update(source.licenses)
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
    with ShardSet(out, shard_samples, request=wanted) as shards, bar:
        task = bar.add_task(f"building {source.name}", total=None)
        if shards.shards:
            note.say(f"going on after {len(shards.shards)} finished shards")
        try:
            for number, row, made in _made(_rows(source, note), shards, jobs):
                _write(shards, number, row, made)
                bar.update(task, completed=number + 1, total=note.total)
            shards.close()
            note.skipped += shards.skipped()
            if not shards.shards:
                raise SourceError(f"{source.name}: no usable row; {'; '.join(note.skipped[:3])}")
        except (SourceError, SourceUnavailable):
            shards.discard()
            raise
        skipped = {"count": len(note.skipped), "first": note.skipped[:100]}
        facts = {"licenses": note.licenses, "facts": note.facts, "skipped": skipped}
        facts["paths"] = {name: str(getattr(source, name)) for name in wanted["inputs"]}
        return shards.commit({**wanted, **facts})


def _rows(source: SourceOptions, note: Build) -> Iterator[Row]:
    """Yield the rows of a source; one that makes its own samples has made them by then."""
    if isinstance(source, Converter):
        yield from source.rows(note)
        return
    for sample in source.generate(note):
        yield Row("", sample.split, lambda sample=sample: sample)


def _made(rows: Iterable[Row], shards: ShardSet, jobs: int) -> Iterator[tuple[int, Row, Made]]:
    """Make the samples of the rows that are in no finished shard, `jobs` at a time, in order.

    Threads, because decoders release the interpreter and nothing has to be copied.
    """
    done: dict[str, int] = {}
    waiting: deque[tuple[int, Row, Future[Made]]] = deque()
    pool = ThreadPoolExecutor(jobs)
    try:
        for number, row in enumerate(rows):
            if number < done.setdefault(row.split, shards.next_row(row.split)):
                continue
            waiting.append((number, row, pool.submit(attempt, row)))
            if len(waiting) > AHEAD * (jobs - 1):
                first, of, made = waiting.popleft()
                yield first, of, made.result()
        for first, of, made in waiting:
            yield first, of, made.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _write(shards: ShardSet, number: int, row: Row, made: Made) -> None:
    """Write a sample, or note why the row made none."""
    try:
        if isinstance(made, Exception):
            raise made
        made.split = row.split
        shards.add(made, number)
    except ROW_ERRORS as error:
        if not row.where:  # a bad row is the user's; a bad sample of our own making is a bug
            raise
        shards.skip(row.split, number, f"{row.where}: {error}")


def summary(manifest: dict[str, Any]) -> str:
    """Return the number of samples by split in words."""
    parts = [f"{found['samples']:,} {split}" for split, found in manifest["splits"].items()]
    return ", ".join(parts) + " samples"


def _report(manifest: dict[str, Any], out: Path, note: Build) -> None:
    for line in note.skipped[:SHOWN]:
        note.say(f"skipped {line}")
    if len(note.skipped) > SHOWN:
        note.say(f"skipped {len(note.skipped) - SHOWN:,} more, see {out / MANIFEST}")
    note.say(f"{out}: {summary(manifest)} in {len(manifest['shards'])} shards")
    for name, licence in manifest["licenses"].items():
        note.say(f"licence of {name}: {licence}")
