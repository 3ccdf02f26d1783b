"""One line of a table: the score of a row, and what is to be known of its answers."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .answering.reply import Note
from .lmms.official import Official
from .rows.own import MissingDataError, Own
from .scoring.right import Scored
from .scoring.statistics import compare, detectable
from .scoring.units import categories

log = logging.getLogger(__name__)
KINDS = {"unanswered": "unreadable", "cut": "cut", "thought": "thought", "shortened": "shortened",
         "remark": "remarks"}  # fmt: skip
"""kind of a `Note` -> what `details` call them"""


@dataclass
class Row:
    """One line of the table. Scores are on 0–100; None where nothing was measured."""

    name: str
    how: str
    score: float | None = None
    n: int = 0
    answered: int = 0  # docs
    unanswered: int = 0  # docs that have no answer and count as wrong
    ci_low: float | None = None
    ci_high: float | None = None
    blind: float | None = None
    chance: float | None = None
    controls: dict[str, dict[str, float]] = field(default_factory=dict)
    """condition -> score, ci_low, ci_high, unanswered, n"""
    details: dict[str, Any] = field(default_factory=dict)
    missing: str = ""  # why there is no score
    title: str = ""
    categories: dict[str, dict[str, float]] = field(default_factory=dict)  # score, n
    detectable: float | None = None  # between two runs of this row, see `statistics.detectable`
    vlmeval: float | None = None  # by VLMEvalKit's rules, see `benchmarks.vlmeval`


def note(row: str, scored: Scored, notes: list[Note], before: int) -> None:
    """Add what was noted of a row's answers to its details, and to the answers that are none.

    Args:
        row: its name.
        scored: of one condition; it is changed.
        notes: of all rows.
        before: how many there were before this condition.

    Raises:
        MissingDataError: not one question has an answer; they are no longer among the notes.
    """
    mine = notes[before:]
    unanswered = [found for found in mine if found.kind == "unanswered"]
    if unanswered and len(unanswered) >= len(scored.outcomes):
        del notes[before:]  # said once, of the row, which has no score
        raise MissingDataError(
            f"not one of {len(unanswered)} questions has an answer; the first: {unanswered[0].line}"
        )
    for kind, name in KINDS.items():
        if lines := [found.line for found in mine if found.kind == kind]:
            scored.details[name] = lines
    reasons = {found.name.partition(":")[2]: found.text for found in unanswered}
    for outcome in scored.outcomes:
        outcome.problem = reasons.get(outcome.doc, "")
    if unanswered:  # "" and counted as wrong
        log.warning("%s: %d docs have no answer: %s", row, len(unanswered), unanswered[0].line)


def unanswered_of(scored: Scored) -> int:
    """Docs without an answer."""
    return len(scored.details.get(KINDS["unanswered"], ()))


def as_row(spec: Official | Own, found: dict[str, Scored | str]) -> Row:
    """The table line of a row from its conditions."""
    normal = found["normal"]
    row = Row(spec.name, spec.how, title=spec.title)
    if isinstance(normal, str):
        row.missing = normal
        return row
    row.score, row.n, row.chance = normal.score, normal.n, normal.chance
    row.ci_low, row.ci_high, row.details = normal.ci_low, normal.ci_high, dict(normal.details)
    row.unanswered = unanswered_of(normal)
    row.answered = len(normal.outcomes) - row.unanswered
    row.vlmeval = row.details.pop("vlmeval", None)
    row.details.setdefault("max_new_tokens", spec.max_new_tokens)
    row.categories = categories(normal)
    row.detectable = detectable(normal.units) if normal.units else None
    for condition, scored in found.items():
        if condition == "normal":
            continue
        if isinstance(scored, str):
            row.details[condition] = f"not measured: {scored}"
        elif condition == "blind":
            row.blind = scored.score
        if isinstance(scored, Scored):
            row.controls[condition] = {
                "score": scored.score, "ci_low": scored.ci_low, "ci_high": scored.ci_high,
                "unanswered": unanswered_of(scored), "n": scored.n,
            }  # fmt: skip
    return row


def set_against(
    rows: Sequence[Row], specs: Sequence[Official | Own], scores: Mapping[str, Scored]
) -> None:
    """Note the difference from the row that a row is compared with, paired by units."""
    for row, spec in zip(rows, specs, strict=True):
        other = spec.against if isinstance(spec, Own) else ""
        if other in scores and spec.name in scores:
            found = compare(scores[spec.name].units, scores[other].units)
            row.details["against"] = {"row": other, **asdict(found)}
