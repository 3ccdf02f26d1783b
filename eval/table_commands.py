"""Commands of omni-eval on finished results."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from omni.serve.command import refused

from .grid import FORMS, Grid, comma_separated, show


class Form(StrEnum):
    """How a table is written."""

    terminal = "terminal"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    json = "json"


Format = Annotated[Form, typer.Option("--format", help="How to write the table.")]


def table(
    files: Annotated[
        list[Path] | None, typer.Argument(help="rows.json of a result, or the folder that holds it")
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option("--with", help='"published", or one published model; may be repeated'),
    ] = None,
    published: Annotated[bool, typer.Option(help="Same as --with published.")] = False,
    form: Format = Form.terminal,
) -> None:
    """Show results again: one in detail, or several models side by side.

    The mean is that of the ten benchmarks behind Baichuan-Omni-1.5's headline and is printed only
    where all ten are there; rows of the mini suite never enter it.

    Example: `omni-eval table runs/a/eval runs/b/eval --with published --format markdown`
    """
    from .report import table as single
    from .report.side_by_side import measured, published_columns, side_by_side, to_csv, to_json

    names = [*(beside or ()), *(["published"] if published else ())]
    if not files and not names:
        raise refused("name a result, or ask for --published")
    try:
        columns = [*measured(files or []), *published_columns(names)]
    except (OSError, ValueError) as error:
        raise refused(error) from error
    if form in (Form.csv, Form.json):
        print(to_csv(columns) if form is Form.csv else to_json(columns), end="")
        return
    alone = len(columns) == 1 and columns[0].kind == "measured"
    found = single.grid(columns[0].result) if alone else side_by_side(columns)
    _print(found, form)


def compare(
    first: Annotated[Path, typer.Argument(help="OUT of one evaluation")],
    second: Annotated[Path, typer.Argument(help="OUT of the one to compare it with")],
    form: Format = Form.terminal,
) -> None:
    """Compare two evaluations question by question.

    Each row and the mean: the difference, its 95 % interval, p, and the smallest difference that
    such a comparison would find.

    Example: `omni-eval compare runs/new/eval runs/old/eval`
    """
    from .report.compare import compare_runs, grid

    try:
        found = compare_runs(first, second)
    except (OSError, ValueError) as error:
        raise refused(error) from error
    if form is Form.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
    elif form is Form.csv:
        _print_csv([*found["rows"], found["mean"]])
    else:
        _print(grid(found), form)


def contamination(
    data: Annotated[
        list[Path],
        typer.Option(help="Parquet files of a benchmark, pictures, or a folder; may be repeated."),
    ],
    shards: Annotated[
        list[Path],
        typer.Option(help="Training shards, a folder of them, or one of folders; may be repeated."),
    ],
    form: Format = Form.terminal,
) -> None:
    """Look for the pictures of a benchmark in training shards, by perceptual hash.

    Every hit is named, FILE:ROW and shard:key; the exit status is 1 if there is any. Sounds,
    videos and texts are not compared.

    Example: `omni-eval contamination --data benchmarks/chartqa --shards data`
    """
    from rich.console import Console
    from rich.progress import Progress

    from .rows.contamination import contamination as search
    from .rows.contamination import grid

    try:
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("training pictures", total=None)
            found = search(data, shards, lambda n: bar.advance(task, n))
    except (OSError, ValueError) as error:
        raise refused(error) from error
    if form is Form.json:
        print(json.dumps(asdict(found), indent=1, ensure_ascii=False))
    elif form is Form.csv:
        _print_csv([hit._asdict() for hit in found.hits])
    else:
        _print(grid(found), form)
    raise typer.Exit(1 if found.hits else 0)


def _print(grid: Grid, form: Form) -> None:
    from rich.console import Console

    if form is Form.terminal:
        show(grid, Console())
    else:
        print(FORMS[form](grid), end="")


def _print_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    """The keys of the first row are the header; nothing where there is no row."""
    if rows:
        print(comma_separated(list(rows[0]), rows), end="")
