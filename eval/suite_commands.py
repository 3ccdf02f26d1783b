"""The commands about what can be measured: which suites there are, and what a folder holds."""

from pathlib import Path
from typing import Annotated

import typer

from .refusal import refused


def suites() -> None:
    """List the suites and their rows."""
    from rich.console import Console
    from rich.table import Table

    from .official import Official
    from .suites import SUITES

    table = Table("suite", "row", "docs", "scored")
    for name, suite in SUITES.items():
        table.add_row(name, f"[bold]{suite.help}[/bold]")
        for row in suite.rows:
            docs = str(row.benchmark.rows) if isinstance(row, Official) and row.public else ""
            table.add_row("", row.name, docs, row.how)
    Console().print(table)


def prepare(
    data: Annotated[Path, typer.Argument(help="Folder of downloaded benchmarks.")],
    suite: Annotated[str, typer.Option(help="Whose rows to look for.")] = "image10",
    rows: Annotated[str, typer.Option(help="Only these rows, comma separated.")] = "",
) -> None:
    """Convert the files of a folder to parquet and check which rows of a suite are complete.

    Reads DATA/NAME/ with parquet files called SPLIT-….parquet as they are; TSV (images in base64),
    CSV, JSON, JSONL and Arrow files are converted beside themselves. Then lmms-eval's own code
    must make a question of every doc, and score its true answer.

    The exit status is 0 if every row is complete.

    Example: `omni-eval prepare benchmarks --rows chartqa,ocrbench`
    """
    from rich.console import Console

    from .prepare import prepare, report
    from .run import choose

    console = Console()
    try:
        chosen = choose(suite, rows)
        with console.status("") as status:
            found = prepare(data, chosen, lambda row: status.update(f"checking {row}"))
    except (ValueError, OSError) as error:
        raise refused(error) from error
    console.print(report(found))
    raise typer.Exit(0 if all(row.complete for row in found) else 1)
