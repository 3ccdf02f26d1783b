"""The one mean that there is: of all ten image benchmarks, or none at all."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..scoring.statistics import Tallies, mean_interval
from .published import published


def mean_of_ten(
    rows: Sequence[Mapping[str, Any]],
    units: Mapping[str, Tallies] | None = None,
    limit: int | None = None,
) -> dict[str, Any] | None:
    """The plain mean of the benchmarks that make up the published headline.

    Rows of other names do not count, least of all those of the mini suite.

    Args:
        rows: as rows.json has them; where one is incomplete or lacks answers, there is no mean.
        units: what to resample for the interval, by row; without it there is none.
        limit: questions a row that the run was limited to.

    Returns:
        None where not one of the ten was asked for. Otherwise `score` with `ci_low` and `ci_high`,
        `rows` of `of` present, titles `missing`, and `why` there is no score: "9 of 10, missing
        ChartQA".
    """
    titles = published().mean_of
    asked = {row["name"]: row for row in rows if row["name"] in titles}
    if not asked:
        return None
    have = {name: row for name, row in asked.items() if row["score"] is not None}
    missing = [title for name, title in titles.items() if name not in have]
    why = _why(have, missing, limit)
    score = None if why else sum(row["score"] for row in have.values()) / len(titles)
    low = high = None
    if score is not None and units and titles.keys() <= units.keys():
        low, high = mean_interval([units[name] for name in titles])
    return {
        "score": score, "ci_low": low, "ci_high": high,
        "rows": len(have), "of": len(titles), "missing": missing, "why": why,
    }  # fmt: skip


def _why(have: Mapping[str, Mapping[str, Any]], missing: list[str], limit: int | None) -> str:
    ten = len(have) + len(missing)
    if not have:
        return f"0 of {ten}"
    if missing:
        return f"{len(have)} of {ten}, missing {', '.join(missing)}"
    if limit:
        return f"limited to {limit} questions a row"
    if silent := [f"{_title(row)} {without_answer(row)}" for row in have.values()
                  if unanswered(row)]:  # fmt: skip
        return f"no answer: {', '.join(silent)}"
    parts = incomplete(have.values())
    if len(parts) > 2:
        return f"{len(parts)} of {ten} are not whole"
    return f"not whole: {', '.join(parts)}" if parts else ""


def incomplete(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The rows with fewer or more docs than their benchmark: "ChartQA 12 of 2500 docs"."""
    return [
        f"{_title(row)} {row['details']['incomplete']}"
        for row in rows
        if row.get("details", {}).get("incomplete")
    ]


def unanswered(row: Mapping[str, Any]) -> int:
    """How many docs of a row have no answer; those of older results are in its details."""
    return row.get("unanswered") or len(row.get("details", {}).get("unreadable", ()))


def without_answer(row: Mapping[str, Any]) -> str:
    """The same in words: "4 of 6"; without the whole where an older result does not say it."""
    count, answered = unanswered(row), row.get("answered")
    return f"{count}" if answered is None else f"{count} of {answered + count}"


def _title(row: Mapping[str, Any]) -> str:
    return row.get("title") or row["name"]
