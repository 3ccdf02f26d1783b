"""The commands `omni-shards build` and `merge`: sets of shards, on one machine or on many."""

import inspect
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer
from rich.console import Console
from rich.markup import escape

UNAVAILABLE = 3  # exit code: the source cannot be had here, so that a script can take another
build_app = typer.Typer(
    no_args_is_help=True,
    help="Build a set of shards from a source.\n\n"
    "Writes train-*.tar, heldout-*.tar and manifest.json to --out, all at once or not at all. A "
    "folder that was built with the same options is kept; a build that was stopped goes on after "
    f"its last finished shard when started again. Exit code {UNAVAILABLE}: the source "
    "cannot be had on this machine.\n\n"
    "On many machines, with the same bytes as on one: `--part 1/8` to `--part 8/8` as jobs of an "
    "array and then `omni-shards merge`, or `--ray ADDRESS` on a Ray cluster. All of them need to "
    "see the input and --out under the same paths.",
)
console = Console(stderr=True, emoji=False)  # names of files and texts of users stay as they are
COMMON: list[tuple[str, Any, Any, str]] = [
    ("out", Path, ..., "folder of the shards"),
    ("seed", int, 0, "another seed gives another split and other questions"),
    ("heldout", float, 0.15, "share of identities that training never sees"),
    ("jobs", int, 0, "files converted at a time; 0: one per core. Never changes the result"),
    ("shard_samples", int, 10_000, "samples in a shard, which also ends at 256 MB"),
    ("force", bool, False, "build even if the folder holds shards already"),
    ("part", str, "", "i/n: make this part of the rows, for omni-shards merge"),
    ("ray", str, "", "address of a Ray cluster that makes the rows; local: workers here"),
]
_PART = re.compile(r"(\d+)/(\d+)")


def fail(message: object, code: int = 1) -> typer.Exit:
    """Print what is wrong, and return what ends the command with this status."""
    console.print(f"[red]error:[/] {escape(str(message))}", highlight=False, soft_wrap=True)
    return typer.Exit(code)


def _build(
    source: Any, out: Path, jobs: int, heldout: float, part: str, ray: str, **common: Any
) -> None:
    if not 0 <= heldout < 1:
        raise fail(f"--heldout {heldout}: give a share from 0 to below 1")
    if jobs < 0 or common["shard_samples"] < 1:
        raise fail("--jobs starts at 0 and --shard-samples at 1")
    if part and ray:
        raise fail("--part and --ray are two ways to build on many machines: give one")
    number, of = _part_of(part)
    common |= {"heldout": heldout, "console": console}
    common["jobs"] = jobs or len(os.sched_getaffinity(0))
    with _failing():
        if part:
            from .parts import build_part

            build_part(source, out, number, of, **common)
        elif ray:
            from .cluster import build_on_ray

            build_on_ray(source, out, ray, **common)
        else:
            from .build import build

            build(source, out, **common)


def _part_of(text: str) -> tuple[int, int]:
    """Return i and n of "i/n"."""
    match = _PART.fullmatch(text or "1/1")
    part, of = map(int, match.groups()) if match else (0, 0)
    if not 1 <= part <= of:
        raise fail(f"--part {text}: give i/n with i from 1 to n, such as 3/8")
    return part, of


@contextmanager
def _failing() -> Iterator[None]:
    """End the command with the status of what went wrong inside."""
    from .build import OtherBuild
    from .cluster import ClusterError
    from .sources import SourceError, SourceUnavailable

    try:
        yield
    except SourceUnavailable as error:
        raise fail(error, UNAVAILABLE) from error
    except (SourceError, OtherBuild, ClusterError, OSError, ValueError) as error:
        raise fail(error) from error


def merge(
    folders: Annotated[
        list[Path], typer.Argument(help="each --out of `omni-shards build ... --part i/n`")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="folder of the shards [default: the one of the parts]"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="merge even if the folder holds other shards already")
    ] = False,
) -> None:
    """Make one set of shards of all parts of a build: the bytes of a build on one machine.

    The parts lie in OUT.parts and are removed at the end; a merge that was killed goes on.

    Example: omni-shards merge data/mine
    """
    from .parts import merge as merge_parts

    if not out and len(folders) > 1:
        raise fail("parts of several folders: say with --out where the shards are to be")
    with _failing():
        merge_parts(folders, out or folders[0], force, console)


def _command(name: str, source: type) -> Callable[..., None]:
    """Make the build command of a source: its dataclass fields become options."""

    def run(**given: Any) -> None:
        common = {key: given.pop(key) for key, *_ in COMMON}
        _build(source(**given), **common)

    hints = get_type_hints(source, include_extras=True)
    specs = list(COMMON)
    for option in fields(source):
        kind, text = get_args(hints[option.name])
        specs.append((option.name, kind, option.default, text))
    parameters = []
    for field, kind, default, text in specs:
        flag = "--" + field.replace("_", "-")
        annotation = Annotated[kind, typer.Option(flag, help=text)]
        empty = inspect.Parameter.empty if default is ... else default
        parameter = inspect.Parameter(
            field, inspect.Parameter.KEYWORD_ONLY, default=empty, annotation=annotation
        )
        parameters.append(parameter)
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    example = f"Example: omni-shards build {name} {_input(source)}--out data/{name}"
    run.__doc__ = f"{source.__doc__}\n\n{example}"
    return run


def _input(source: type) -> str:
    """Return the option of an example that names a converter's input: the first of its own."""
    from .sources.formats.convert import Converter

    if not issubclass(source, Converter):
        return ""
    own = inspect.get_annotations(source)
    first = next(option.name for option in fields(source) if option.name in own)
    return f"--{first} {'mine.json' if first == 'json' else 'mine'} "


def _register() -> None:
    from .environments.source import WORLDS
    from .sources import SOURCES

    for name, source in {**SOURCES, **WORLDS}.items():
        build_app.command(name)(_command(name, source))


_register()
