"""`omni-shards build`: run a source, write its shards, and know when that was done already."""

import glob
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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
    wanted = request(source, seed, heldout, shard_samples)
    note = Build(seed=seed, heldout=heldout, say=say_on(console))

    def listed() -> Order:
        note.licenses.update(source.licenses)
        rows = enumerate(list_rows(source, note))
        return Order(wanted, paths(source, wanted), note, partial(outcomes, rows, jobs))

    return fill(out, wanted, force, console, listed)


class Order(NamedTuple):
    """A set of shards that is to be written."""

    request: dict[str, Any]
    paths: dict[str, str]
    note: Build
    outcomes: Callable[[Callable[[str], int]], Iterator["Outcome"]]
    """given the first row of each split that is in no finished shard yet: what they became"""


class Outcome(NamedTuple):
    """What row `number` of a source became: a sample, or the reason why it is none."""

    number: int
    where: str
    split: str
    made: Sample | Exception


def say_on(console: Console) -> Callable[[str], None]:
    """Return what prints lines: names of files may hold what rich takes for markup."""
    # wrapped paths cannot be copied
    return partial(console.print, markup=False, emoji=False, highlight=False, soft_wrap=True)


def paths(source: SourceOptions, wanted: dict[str, Any]) -> dict[str, str]:
    """Return where the inputs of a request were read from."""
    return {name: str(getattr(source, name)) for name in wanted["inputs"]}


def kept(out: Path, wanted: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any] | None:
    """Return the manifest of what stands at `out` if it is what is wanted, as `existing` does."""
    if manifest := existing(out, wanted):
        (out / JOURNAL).unlink(missing_ok=True)  # where a kill came right after the rename
        _beside(out, missing=True)
        say(f"{out}: already built, {summary(manifest)}; kept (--force rebuilds)")
    return manifest


def fill(
    out: Path,
    wanted: dict[str, Any],
    force: bool,
    console: Console,
    order: Callable[[], Order],
) -> dict[str, Any]:
    """Write a set of shards to `out` unless it is there already, and return its manifest."""
    with exclusive(out):
        manifest = None if force else kept(out, wanted, say_on(console))
        if manifest:
            return manifest
        ordered = order()
        manifest = _write_set(ordered, out, console)
        _beside(out)
    _report(manifest, out, ordered.note)
    return manifest


def _beside(out: Path, missing: bool = False) -> None:
    """Write what stands beside finished shards: the index, and README.md with HF's features."""
    build_index(out)
    if not (missing and (out / "README.md").is_file()):
        export(out, "hf")


def progress(console: Console) -> Progress:
    """Return a bar that counts rows."""
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True)


def _write_set(order: Order, out: Path, console: Console) -> dict[str, Any]:
    wanted, note = order.request, order.note
    size = wanted.get("shard_samples", SHARD_SAMPLES)
    with ShardSet(out, size, request=wanted) as shards, progress(console) as bar:
        task = bar.add_task(f"building {wanted['source']}", total=None)
        if shards.shards:
            note.say(f"going on after {len(shards.shards)} finished shards")
        try:
            for outcome in order.outcomes(shards.next_row):
                _write(shards, outcome)
                bar.update(task, completed=outcome.number + 1, total=note.total)
            shards.close()
            note.skipped += shards.skipped()
            if not shards.shards:
                reasons = "; ".join(note.skipped[:3])
                raise SourceError(f"{wanted['source']}: no usable row; {reasons}")
        except (SourceError, SourceUnavailable):
            shards.discard()
            raise
        skipped = {"count": len(note.skipped), "first": note.skipped[:100]}
        facts = {"licenses": note.licenses, "facts": note.facts, "skipped": skipped}
        return shards.commit({**wanted, **facts, "paths": order.paths})


def list_rows(source: SourceOptions, note: Build) -> Iterator[Row]:
    """Yield the rows of a source; one that makes its own samples has made them by then."""
    if isinstance(source, Converter):
        yield from source.rows(note)
        return
    for sample in source.generate(note):
        yield Row("", sample.split, lambda sample=sample: sample)


def outcomes(
    rows: Iterable[tuple[int, Row]], jobs: int, next_row: Callable[[str], int] = lambda _: 0
) -> Iterator[Outcome]:
    """Make the samples of numbered rows, `jobs` at a time, in order.

    Threads, because decoders release the interpreter and nothing has to be copied. Rows of a
    split before its `next_row` are passed over.
    """
    done: dict[str, int] = {}
    waiting: deque[tuple[int, Row, Future[Sample | Exception]]] = deque()
    pool = ThreadPoolExecutor(jobs)

    def first() -> Outcome:
        number, row, made = waiting.popleft()
        return Outcome(number, row.where, row.split, made.result())

    try:
        for number, row in rows:
            if number < done.setdefault(row.split, next_row(row.split)):
                continue
            waiting.append((number, row, pool.submit(attempt, row)))
            if len(waiting) > AHEAD * (jobs - 1):
                yield first()
        while waiting:
            yield first()
    finally:
        pool.shutdown(cancel_futures=True)


def _write(shards: ShardSet, outcome: Outcome) -> None:
    """Write a sample, or note why the row made none."""
    number, where, split, made = outcome
    try:
        if isinstance(made, Exception):
            raise made
        made.split = split
        shards.add(made, number)
    except ROW_ERRORS as error:
        if not where:  # a bad row is the user's; a bad sample of our own making is a bug
            raise
        shards.skip(split, number, f"{where}: {error}")


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
