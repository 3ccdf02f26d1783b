"""`omni-shards build`: run a source, write its shards, and know when that was done already."""

from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from omni.lock import exclusive

from .manifest import MANIFEST, read_manifest, sha256
from .sources import Build, SourceOptions

SHOWN = 10


class OtherBuild(RuntimeError):  # noqa: N818 - reads as what it is
    """The folder holds shards that were built from other options."""


def request(source: SourceOptions, seed: int, heldout: float) -> dict[str, Any]:
    """Return everything that decides what a build makes, contents of input files included."""
    values = {f.name: getattr(source, f.name) for f in fields(source)}  # type: ignore[arg-type]
    inputs = {}
    for value in values.values():
        path = Path(value) if isinstance(value, str | Path) and str(value) else None
        if path and path.is_file():
            inputs[str(path)] = sha256(path)
        elif path and (path / MANIFEST).is_file():
            inputs[str(path)] = sha256(path / MANIFEST)
    options = {name: str(v) if isinstance(v, Path) else v for name, v in values.items()}
    return {
        "source": source.name,
        "options": options,
        "seed": seed,
        "heldout": heldout,
        "inputs": inputs,
    }


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
) -> dict[str, Any]:
    """Build one set of shards at `out` and return its manifest; a finished one is kept.

    Raises:
        OtherBuild: `out` holds shards of other options and `force` is not given.
        SourceUnavailable, SourceError: nothing is written then.
    """
    console = console or Console(stderr=True)
    with exclusive(out):
        return _build(source, out, seed, heldout, force, console)


def _build(
    source: SourceOptions, out: Path, seed: int, heldout: float, force: bool, console: Console
) -> dict[str, Any]:
    # names of files may hold what rich takes for markup, and wrapped paths cannot be copied
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    wanted = request(source, seed, heldout)
    manifest = None if force else existing(out, wanted)
    if manifest:
        say(f"{out}: already built, {summary(manifest)}; kept (--force rebuilds)")
        return manifest
    from .write import ShardSet  # here, because torch behind webdataset takes seconds to import

    note = Build(seed=seed, heldout=heldout, say=say)
    note.licenses.update(source.licenses)
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
    with ShardSet(out) as shards, bar:
        task = bar.add_task(f"building {source.name}", total=None)
        for sample in source.generate(note):
            shards.add(sample)
            bar.update(task, advance=1, total=note.total)
        skipped = {"count": len(note.skipped), "first": note.skipped[:100]}
        facts = {"licenses": note.licenses, "facts": note.facts, "skipped": skipped}
        manifest = shards.commit({**wanted, **facts})
    _report(manifest, out, note)
    return manifest


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
