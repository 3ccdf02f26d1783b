"""The page of a result: scores, categories, answers not fully right."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..answering.failures import SHOWN
from ..grid import Grid
from .chart import scores
from .page import data_uri, examples, render
from .table import grid, number

DETECTABLE = (
    "detectable: the smallest true difference that four of five comparisons of two such runs would "
    "find. `omni-eval compare` pairs the questions of two runs and needs less."
)
CUT_AT = 1200  # letters of a text on the page


def report(result: dict[str, Any], answers: Sequence[dict[str, Any]], out: Path) -> str:
    """The page as HTML.

    Args:
        result: what rows.json holds.
        answers: lines of answers.jsonl.
        out: where their pictures lie.
    """
    table = _with_detectable(grid(result), result["rows"])
    lost = [_failures(row, answers, out) for row in result["rows"]]
    return render(
        "report.html",
        "eval.report",
        name=result.get("model") or out.resolve().name,
        result=result,
        head=table.head,
        table=[(row, number in table.ruled) for number, row in enumerate(table.rows)],
        notes=[*table.notes, DETECTABLE],
        examples=examples(result, out),
        scores=Markup(scores("score of each row, per cent", result["rows"])),
        categories=[row for row in result["rows"] if row["categories"]],
        failures=[found for found in lost if found["listed"]],
    )


def _with_detectable(table: Grid, rows: Sequence[dict[str, Any]]) -> Grid:
    column = [number(row.get("detectable")) for row in rows]
    column += [""] * (len(table.rows) - len(column))
    lines = [[*line, cell] for line, cell in zip(table.rows, column, strict=True)]
    return Grid([*table.head, "detectable"], lines, table.notes, table.ruled)


def _failures(row: dict[str, Any], answers: Sequence[dict[str, Any]], out: Path) -> dict[str, Any]:
    """Answers that are not fully right: those with a picture first, for somebody chose them."""
    mine = [
        line for line in answers if line["row"] == row["name"] and line["condition"] == "normal"
    ]
    lost = [line for line in mine if line["correct"] < 1]
    listed = sorted(lost, key=lambda line: not line["image"])[:SHOWN]
    return {
        "title": row.get("title") or row["name"],
        "lost": len(lost),
        "of": len(mine),
        "listed": [{**_cut(line), "picture": data_uri(out / line["image"])} for line in listed],
    }


def _cut(line: dict[str, Any]) -> dict[str, Any]:
    if problem := line.get("problem"):
        line = {**line, "answer": f"(none: {problem})"}
    texts = {key: str(line[key]) for key in ("doc", "question", "expected", "answer", "category")}
    return {
        key: text if len(text) <= CUT_AT else f"{text[:CUT_AT]} … ({len(text):,} letters)"
        for key, text in texts.items()
    }
