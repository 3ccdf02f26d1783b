"""A table of text, and the forms it can be written in."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NUMBER = re.compile(r"[–+\-]?\d|–$")  # how a cell of numbers begins
WIDTH = 200  # letters, in a file
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "–": "--", "◇": r"$^\diamond$", "−": "$-$", "≥": r"$\geq$",
}  # fmt: skip


@dataclass
class Grid:
    """Text cells under a head, and what a reader must know beside them.

    `ruled`: the rows below which a line is drawn.
    """

    head: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    ruled: set[int] = field(default_factory=set)

    def right(self, column: int) -> bool:
        """Whether a column holds numbers, which stand to the right."""
        return column > 0 and any(NUMBER.match(row[column]) for row in self.rows)


def show(grid: Grid, console: Any) -> None:
    """Print on a rich console. What is no terminal gets lines as long as they need to be."""
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    console.print(_rich(grid))
    for note in grid.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=not console.is_terminal)


def _rich(grid: Grid) -> Any:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for column, name in enumerate(grid.head):
        justify = "right" if grid.right(column) else "left"
        table.add_column(escape(name), justify=justify, overflow="fold")
    for number, row in enumerate(grid.rows):
        table.add_row(*map(escape, row), end_section=number in grid.ruled)
    return table


def terminal(grid: Grid) -> str:
    """The table as plain text."""
    from rich.console import Console

    buffer = io.StringIO()
    show(grid, Console(file=buffer, no_color=True))
    return buffer.getvalue()


def markdown(grid: Grid) -> str:
    """The table as GitHub shows it, its notes below."""
    rule = ["---:" if grid.right(column) else "---" for column in range(len(grid.head))]
    lines = [_bars(grid.head), "|" + "|".join(rule) + "|", *map(_bars, grid.rows)]
    return "\n".join([*lines, "", *grid.notes, ""])


def latex(grid: Grid) -> str:
    r"""A tabular for the package booktabs; the notes are comments above it."""
    columns = "".join("r" if grid.right(column) else "l" for column in range(len(grid.head)))
    lines = [f"% {note}" for note in grid.notes]
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _ampersands(grid.head), r"\midrule"]
    for number, row in enumerate(grid.rows):
        lines.append(_ampersands(row))
        if number in grid.ruled and number + 1 < len(grid.rows):
            lines.append(r"\midrule")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def comma_separated(fields: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """CSV of these fields, with a head; what a row lacks is left empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fields, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


FORMS: dict[str, Callable[[Grid], str]] = {
    "terminal": terminal, "markdown": markdown, "latex": latex
}  # fmt: skip


def _bars(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _ampersands(cells: list[str]) -> str:
    return " & ".join("".join(LATEX.get(char, char) for char in c) for c in cells) + r" \\"
