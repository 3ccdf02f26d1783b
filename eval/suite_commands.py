"""The commands about what can be measured: which suites there are, and what a folder holds."""

from pathlib import Path
from typing import Annotated

import typer

from omni.serve.command import refused

from .options import Rows, Suite


def suites() -> None:
    """List the suites and their rows."""
    from rich.console import Console

    from .grid import Grid, show
    from .lmms.official import Official
    from .suites.registry import SUITES

    lines = []
    for name, suite in SUITES.items():
        lines.append([name, suite.help, "", ""])
        for row in suite.rows:
            docs = str(row.benchmark.rows) if isinstance(row, Official) and row.public else ""
            lines.append(["", row.name, docs, row.how])
    show(Grid(["suite", "row", "docs", "scored"], lines), Console())


def prepare(
    data: Annotated[Path, typer.Argument(help="Folder of downloaded benchmarks.")],
    suite: Suite = "image10",
    rows: Rows = "",
) -> None:
    """Convert the files of a folder to parquet and check which rows of a suite are complete.

    Reads DATA/NAME/ with parquet files called SPLIT-….parquet as they are; TSV (images in base64),
    CSV, JSON, JSONL and Arrow files are converted beside themselves. Then lmms-eval's own code
    must make a question of every doc, and take its true answer without an error.

    The exit status is 0 if every row is complete.

    Example: `omni-eval prepare benchmarks --rows chartqa,ocrbench`
    """
    from rich.console import Console

    from .grid import show
    from .run import choose
    from .suites.prepare import prepare, report

    console = Console()
    try:
        chosen = choose(suite, rows)
        with console.status("") as status:
            found = prepare(data, chosen, lambda row: status.update(f"checking {row}"))
    except (ValueError, OSError) as error:
        raise refused(error) from error
    show(report(found), console)
    raise typer.Exit(0 if all(row.complete for row in found) else 1)
