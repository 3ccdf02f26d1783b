"""Two runs, question by question: which is better, by how much, and could that be luck."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..grid import Grid
from ..scoring.statistics import Difference, Tallies, compare, compare_means, score
from ..scoring.units import tallies_of
from .published import published
from .side_by_side import measured
from .table import number

Rows = dict[str, Tallies]


def compare_runs(first: Path, second: Path) -> dict[str, Any]:
    """The first run minus the second, on the questions that both were asked.

    Args:
        first: OUT of omni-eval, or its rows.json; so is `second`.
        second: what it is compared with.

    Returns:
        `first` and `second`: titles; `rows` and `mean`, each with the scores of both on their
        common questions and the fields of `statistics.Difference`; `notes`. The mean is that of
        the ten benchmarks where both have them all, otherwise of the rows compared.

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
    rows = [
        {"name": name, "title": titles[name], **_line(*pair, compare(*pair))}
        for name, pair in compared.items()
    ]
    mean = _mean(of_mean, f"mean of {'the' if whole else 'these'} {len(of_mean)}")
    notes = [*_left_out(titles, one.rows, two.rows, compared), *_data(one.result, two.result)]
    return {"first": one.title, "second": two.title, "rows": rows, "mean": mean, "notes": notes}


def grid(found: dict[str, Any]) -> Grid:
    """Differences with their intervals, the mean last."""
    head = ["row", found["first"], found["second"], "difference", "95 %", "p", "detectable", "n"]
    lines = [
        [
            row["title"], number(row["first"]), number(row["second"]), f"{row['score']:+.1f}",
            f"{row['low']:+.1f} to {row['high']:+.1f}", _p(row["p"]), number(row["detectable"]),
            str(row["n"]),
        ]
        for row in (*found["rows"], found["mean"])
    ]  # fmt: skip
    notes = [
        "difference: the first minus the second on their common questions. 95 %: paired bootstrap. "
        "p: how often a difference this large appears when each question's two results are "
        "exchanged at random; of twenty rows that do not differ, one has p < 0.05. detectable: the "
        "smallest true difference that four of five such comparisons would find. n: questions, or "
        "sets of them that belong together.",
        *found["notes"],
    ]
    return Grid(head, lines, notes, ruled={len(found["rows"]) - 1})


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
    return {"name": "mean", "title": title, "first": first, "second": second, **asdict(found)}


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
