"""What a bench finds, and how it is shown: a table, and one last line of json."""

import json
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

# the two parameters of every `bench` command
Name = Annotated[str, typer.Argument(help="which; without one they are listed")]
Small = Annotated[bool, typer.Option("--small", help="seconds instead of minutes")]

WIDE = 200  # columns of a table in a log


@dataclass
class Result:
    """What a bench found: `ok` if the promise holds, figures for machines, rows for readers."""

    ok: bool
    figures: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    """a table: each row has the same keys, which are its header"""

    def line(self) -> dict[str, Any]:
        """Return what the last line of output says as json."""
        return {"ok": self.ok, **self.figures}


def show(
    run: Callable[..., Result], small: bool = False, folder: Path | None = None, **given: Any
) -> bool:
    """Run a bench and print its table and its line of json; return whether it is ok.

    The line is printed whatever happens: whoever reads it needs no other case. `folder` is kept.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    try:
        with nullcontext(folder) if folder else TemporaryDirectory(prefix="omni-bench-") as place:
            result = run(Path(place) / "work", small=small, **given)
    except Exception as error:
        traceback.print_exc()
        result = Result(False, {"error": f"{type(error).__name__}: {error}"})
    if result.rows:
        table = Table(*result.rows[0])
        for row in result.rows:
            table.add_row(*(escape(_cell(value)) for value in row.values()))
        wide = None if sys.stdout.isatty() else WIDE
        Console(width=wide).print(table)
    print(json.dumps(result.line()), flush=True)
    return result.ok


def run_named(
    package: str, benches: Mapping[str, str], name: str, small: bool,
    folder: Path | None = None, **given: Any,
) -> int:  # fmt: skip
    """Do what `bench NAME` says and return the exit status; without a name, list the benches.

    Args:
        package: where each bench is a module with `run(folder, small)`.
        benches: name -> what it measures.
        name: of one of them.
        small: seconds instead of minutes.
        folder: where a bench of learning goes on with what it finds, and leaves what it makes.
        given: what this bench needs beside.
    """
    if name in benches:
        run = module_of(package, name).run
        takes = signature(run).parameters
        extra = [key for key in given if key not in takes]
        if folder and "seeds" not in takes:
            extra.append("folder")
        if extra:
            options = ", ".join(f"--{key}" for key in extra)
            print(f"error: the bench {name} takes no {options}", file=sys.stderr)
            return 2
        return 0 if show(run, small, folder, **given) else 1
    for known, text in benches.items():
        print(f"{known:16} {text}")
    if name:
        print(f"error: there is no bench {name!r}; above are all", file=sys.stderr)
    return 2 if name else 0


def module_of(package: str, name: str) -> Any:
    """Import the module of a bench; "resume-cost" is in resume_cost.py."""
    return import_module(f".{name.replace('-', '_')}", package)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:,}" if isinstance(value, int) else str(value)
