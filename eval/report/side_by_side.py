"""Several models in one table, measured here or published elsewhere."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..grid import Grid, comma_separated
from .mean import incomplete, mean_of_ten, unanswered, without_answer
from .published import published
from .table import number

FIELDS = (
    "model", "kind", "row", "title", "score", "ci_low", "ci_high", "n", "answered", "unanswered",
    "blind", "chance", "how", "source", "note", "missing",
)  # fmt: skip


@dataclass
class Column:
    """One model. `result` as rows.json holds it; published ones have no more than rows and mean."""

    title: str
    kind: str
    """measured | published"""
    result: dict[str, Any]

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.result["rows"]}


def read_result(path: Path) -> dict[str, Any]:
    """Read rows.json, or that of a folder.

    Raises:
        FileNotFoundError: there is none; ValueError: it is no such file.
    """
    file = path / "rows.json" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: no such file; `omni-eval CHECKPOINT --out {path}` writes rows.json there"
        )
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(result["rows"], list):
            raise TypeError("rows is no list")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is not what omni-eval writes as rows.json: {error}") from error
    return result


def measured(paths: Sequence[Path]) -> list[Column]:
    """A column for each result, named after its model, or its folder where that is not enough."""
    columns = []
    for path in paths:
        result = read_result(path)
        folder = path if path.is_dir() else path.parent
        columns.append(Column(result.get("model") or folder.resolve().name, "measured", result))
    titles = [column.title for column in columns]
    for column, path in zip(columns, paths, strict=True):
        if titles.count(column.title) > 1:
            column.title = f"{column.title} ({path})"
    return columns


def published_columns(names: Sequence[str]) -> list[Column]:
    """Columns of published models; "published" means all of them.

    Raises:
        ValueError: an unknown name.
    """
    found = published()
    chosen = [m for name in names for m in (found.models if name == "published" else [name])]
    columns = []
    for model in dict.fromkeys(chosen):
        rows = found.rows(model)
        columns.append(Column(model, "published", {"rows": rows, "mean": mean_of_ten(rows)}))
    return columns


def side_by_side(columns: Sequence[Column]) -> Grid:
    """A line for each row that any of them has; the ten first, and their mean below them.

    Of the published rows beside the ten only those that were measured, too, if anything was.
    """
    titles = published().mean_of
    ours = [column for column in columns if column.kind == "measured"]
    ten = [name for name in titles if any(name in column.rows for column in columns)]
    names = {name: None for column in ours or columns for name in column.rows}
    others = [name for name in names if name not in titles]
    shown = [*ten, *others]
    lines = [[_title(name, columns), *(_cell(c.rows.get(name)) for c in columns)] for name in shown]
    means = [column.result.get("mean") for column in columns]
    if any(means):
        label = f"mean of {len(titles)}"
        lines.insert(len(ten), [label, *(_mean(mean) for mean in means)])
    mixed = len({column.kind for column in columns}) > 1
    head = [f"{c.title} ({c.kind})" if mixed else c.title for c in columns]
    ruled = {len(ten) - 1, len(ten)} if any(means) else set()
    return Grid(["row", *head], lines, [*_notes(columns)], ruled)


def to_json(columns: Sequence[Column]) -> str:
    """Every column with its rows as they are stored, and the notes of the table."""
    whole = [
        {"model": c.title, "kind": c.kind, "mean": c.result.get("mean"), "rows": c.result["rows"]}
        for c in columns
    ]
    notes = [*_notes(columns)]
    return json.dumps({"columns": whole, "notes": notes}, indent=1, ensure_ascii=False) + "\n"


def to_csv(columns: Sequence[Column]) -> str:
    """One line for each model and row; the mean is the row "mean"."""
    lines = []
    for column in columns:
        for row in column.result["rows"]:
            line = {"model": column.title, "kind": column.kind, "row": row["name"]}
            lines.append(row | line)
        if mean := column.result.get("mean"):
            line = {"model": column.title, "kind": column.kind, "row": "mean"}
            lines.append(mean | line | {"missing": mean["why"]})
    return comma_separated(FIELDS, lines)


def _title(name: str, columns: Sequence[Column]) -> str:
    found = (column.rows[name].get("title") for column in columns if name in column.rows)
    return next(filter(None, found), name)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    if row.get("missing") or row["score"] is None:
        return "missing"
    interval = f" ({row['ci_low']:.1f}–{row['ci_high']:.1f})" if "ci_low" in row else ""
    lost = f"\n{without_answer(row)} unanswered" if unanswered(row) else ""
    return number(row["score"]) + row.get("mark", "") + interval + lost


def _mean(mean: dict[str, Any] | None) -> str:
    if not mean:
        return "–"
    if mean["score"] is None:
        return mean["why"]
    low, high = mean["ci_low"], mean["ci_high"]
    return f"{mean['score']:.2f}" + ("" if low is None else f" ({low:.2f}–{high:.2f})")


def _notes(columns: Sequence[Column]) -> list[str]:
    notes = []
    for column in columns:
        if column.kind == "measured":
            notes.append(_provenance(column))
        notes += [
            f"{column.title}, {row['title']}: {row['note']}."
            for row in column.result["rows"]
            if row.get("note")
        ]
    kinds = {column.kind for column in columns}
    if "published" in kinds:
        marks = "; ".join(f"{mark} {text}" for mark, text in published().marks.items())
        notes.append(f"Published rows: {published().source} {marks}.")
    if len(kinds) == 2:
        notes.append(
            "Published rows were made with other prompts and judges than yours; between two "
            "harnesses these alone have moved one model by ten points on one benchmark."
        )
    return notes


def _provenance(column: Column) -> str:
    result = column.result
    by_how: dict[str, list[str]] = {}
    for row in result["rows"]:
        by_how.setdefault(row["how"], []).append(row.get("title") or row["name"])
    how = "; ".join(f"{how}: {', '.join(titles)}" for how, titles in by_how.items())
    limit = f", limited to {result['limit']} questions a row" if result.get("limit") else ""
    parts = incomplete(result["rows"])
    lacking = f" Not whole: {', '.join(parts)}." if parts else ""
    silent = ", ".join(lost_answers(column))
    wrong = f" Without an answer, and counted as wrong: {silent}." if silent else ""
    return (
        f"{column.title}: {result.get('images') or 'measured'}{limit}. Scored {how}."
        f"{lacking}{wrong}"
    )


def lost_answers(column: Column) -> list[str]:
    """The rows that lack answers: "ChartQA 4 of 6"."""
    return [
        f"{row.get('title') or row['name']} {without_answer(row)}"
        for row in column.result["rows"]
        if unanswered(row)
    ]
