"""The second column of a table: the same answers by VLMEvalKit's rules."""

from collections.abc import Sequence
from typing import Any

from ..grid import Grid

NAME = "VLMEvalKit"
PLACE = 3  # after the score and its interval
SEEN = 0.05  # a difference that a table shows
NOTE = (
    f"{NAME}: the same answers to the same questions, matched by its rules without a judge; many "
    "published numbers come from it, with its own prompts."
)


def with_second(table: Grid, rows: Sequence[dict[str, Any]]) -> Grid:
    """The table with the column, where it differs from the score in any row.

    Args:
        table: its lines are those of `rows`, and a mean of them at most.
        rows: as rows.json has them.
    """
    found = [None if row["missing"] else row.get("vlmeval") for row in rows]
    pairs = zip(found, rows, strict=True)
    if not any(x is not None and abs(x - row["score"]) > SEEN for x, row in pairs):
        return table
    column = ["" if x is None else f"{x:.1f}" for x in found]
    if len(table.rows) > len(rows):  # only a mean of whole rows is one
        whole = table.rows[-1][1] != "–" and None not in found
        column.append(f"{sum(filter(None, found)) / len(found):.2f}" if whole else "")
    lines = [
        [*line[:PLACE], cell, *line[PLACE:]] for line, cell in zip(table.rows, column, strict=True)
    ]
    head = [*table.head[:PLACE], NAME, *table.head[PLACE:]]
    return Grid(head, lines, [*table.notes, NOTE], table.ruled)
