"""Two runs, question by question: which is better, by how much, and could that be luck."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ..grid import Grid
from ..scoring.statistics import Difference, Tallies, compare, compare_means, score
from ..scoring.units import tallies_of
from .mean import unanswered
from .published import published
from .side_by_side import Column, lost_answers, measured
from .table import number

Rows = dict[str, Tallies]


def compare_runs(first: Path, second: Path) -> dict[str, Any]:
    """The first run minus the second, on the questions that both were asked.

    Args:
        first: OUT of omni-eval, or its rows.json; so is `second`.
        second: what it is compared with.

    Returns:
        `first` and `second`: titles; `rows` and `mean`, each with the scores of both on their
        common questions, the fields of `statistics.Difference` and how many docs of either run
        have no answer; `notes`. The mean is that of the ten benchmarks where both have them all,
        otherwise of the rows compared; None, and `why`, where answers are lacking.

    Raises:
        FileNotFoundError: no results there; ValueError: nothing in common.
    """
    one, two = measured([first, second])
    ours, theirs = _tallies(first), _tallies(second)
    titles = {name: row.get("title") or name for name, row in (two.rows | one.rows).items()}
    shared = {name: _common(ours[name], theirs[name]) for name in ours if name in theirs}
    compared = {name: pair for name, pair in shared.items() if pair[0]}
    if not compared:
        raise ValueError(f"{one.title} and {two.title} were asked no question in common")
    ten = published().mean_of
    whole = all(column.result.get("mean", {}) and column.result["mean"]["score"] is not None
                for column in (one, two))  # fmt: skip
    of_mean = {name: pair for name, pair in compared.items() if name in ten or not whole}
    lost = {
        name: {"first_unanswered": unanswered(one.rows[name]),
               "second_unanswered": unanswered(two.rows[name])}
        for name in compared
    }  # fmt: skip
    rows = [
        {"name": name, "title": titles[name], **_line(*pair, compare(*pair)), **lost[name]}
        for name, pair in compared.items()
    ]
    title = f"mean of {'the' if whole else 'these'} {len(of_mean)}"
    silent = [titles[name] for name in of_mean if any(lost[name].values())]
    mean = _no_mean(title, silent) if silent else _mean(of_mean, title)
    notes = [
        *_unanswered(one, two),
        *_left_out(titles, one.rows, two.rows, compared),
        *_data(one.result, two.result),
    ]
    return {"first": one.title, "second": two.title, "rows": rows, "mean": mean, "notes": notes}


def grid(found: dict[str, Any]) -> Grid:
    """Differences with their intervals, the mean last."""
    head = ["row", found["first"], found["second"], "difference", "95 %", "p", "detectable", "n"]
    lines = [_cells(row) for row in (*found["rows"], found["mean"])]
    notes = [
        "difference: the first minus the second on their common questions. 95 %: paired bootstrap. "
        "p: how often a difference this large appears when each question's two results are "
        "exchanged at random; of twenty rows that do not differ, one has p < 0.05. detectable: the "
        "smallest true difference that four of five such comparisons would find. n: questions, or "
        "sets of them that belong together.",
        *found["notes"],
    ]
    return Grid(head, lines, notes, ruled={len(found["rows"]) - 1})


def _cells(row: dict[str, Any]) -> list[str]:
    if row["score"] is None:
        return [row["title"], "–", "–", "–", row["why"], "", "", ""]
    sides = [number(row[side]) for side in ("first", "second")]
    lost = [row[f"{side}_unanswered"] for side in ("first", "second")]
    sides = [f"{x}\n({n} unanswered)" if n else x for x, n in zip(sides, lost, strict=True)]
    return [
        row["title"], *sides, f"{row['score']:+.1f}", f"{row['low']:+.1f} to {row['high']:+.1f}",
        _p(row["p"]), number(row["detectable"]), str(row["n"]),
    ]  # fmt: skip


def _tallies(path: Path) -> Rows:
    folder = path if path.is_dir() else path.parent
    file = folder / "units.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: no such file; run omni-eval again with --out {folder}: answers that are "
            "stored there are not asked again"
        )
    stored = json.loads(file.read_text(encoding="utf-8"))
    return {name: tallies_of(units) for name, units in stored.items()}


def _common(ours: Tallies, theirs: Tallies) -> tuple[Tallies, Tallies]:
    names = [name for name in ours if name in theirs]
    return {name: ours[name] for name in names}, {name: theirs[name] for name in names}


def _line(ours: Tallies, theirs: Tallies, difference: Difference) -> dict[str, Any]:
    return {"first": score(ours), "second": score(theirs), **asdict(difference)}


def _mean(pairs: Mapping[str, tuple[Tallies, Tallies]], title: str) -> dict[str, Any]:
    scores = [(score(ours), score(theirs)) for ours, theirs in pairs.values()]
    first, second = (sum(side) / len(scores) for side in zip(*scores, strict=True))
    found = compare_means(list(pairs.values()))
    return {"name": "mean", "title": title, "first": first, "second": second, **asdict(found),
            "first_unanswered": 0, "second_unanswered": 0, "why": ""}  # fmt: skip


def _no_mean(title: str, silent: list[str]) -> dict[str, Any]:
    facts = dict.fromkeys(["first", "second", *(f.name for f in fields(Difference))])
    return {"name": "mean", "title": title, **facts, "why": f"no answer: {', '.join(silent)}"}


def _unanswered(*columns: Column) -> list[str]:
    return [
        f"{column.title}: without an answer, and counted as wrong: {', '.join(lost)}."
        for column in columns
        if (lost := lost_answers(column))
    ]


def _left_out(
    titles: Mapping[str, str],
    one: Mapping[str, Any],
    two: Mapping[str, Any],
    compared: Mapping[str, Any],
) -> list[str]:
    alone = [titles[name] for name in titles if (name in one) != (name in two)]
    other = [titles[n] for n in titles if n in one and n in two and n not in compared]
    notes = [f"Only in one of the two: {', '.join(alone)}."] if alone else []
    if other:
        notes.append(f"Not compared, for they share no scored question: {', '.join(other)}.")
    return notes


def _data(one: dict[str, Any], two: dict[str, Any]) -> list[str]:
    if one.get("data") == two.get("data"):
        return []
    return [
        "The two were measured on different files; questions were matched by number, wording and "
        "expected answer, which does not show whether their images are the same."
    ]


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
