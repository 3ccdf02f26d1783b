"""What a finished row was counted from: by category, and on disk for a later comparison."""

import hashlib
import json
from collections import defaultdict
from typing import Any

from .right import TOLERANCE, Scored
from .statistics import Tallies, score


def stored_units(scored: Scored) -> dict[str, dict[str, Any]]:
    """Unit -> its `pairs`, and a digest of its `docs`: name, question and expected answer.

    Two runs have a unit in common where both agree. Empty where the units do not give the score.
    """
    if not scored.units or abs(score(scored.units) - scored.score) > TOLERANCE:
        return {}
    docs: dict[str, list[tuple[str, str, str]]] = {unit: [] for unit in scored.units}
    for outcome in scored.outcomes:
        docs[outcome.unit].append((outcome.doc, outcome.question, outcome.expected))
    return {
        unit: {"pairs": pairs, "docs": _digest(sorted(docs[unit]))}
        for unit, pairs in scored.units.items()
    }


def tallies_of(stored: dict[str, dict[str, Any]]) -> Tallies:
    """What `stored_units` made, for `statistics`, under names that say which docs they are."""
    return {f"{unit} {found['docs']}": found["pairs"] for unit, found in stored.items()}


def categories(scored: Scored) -> dict[str, dict[str, float]]:
    """Category -> `score` and `n` units, by the same rule as the row; empty if there is only one.

    Where a unit holds docs of several categories, each category is the mean of its docs.
    """
    names = {outcome.category for outcome in scored.outcomes}
    if len(names) < 2:
        return {}
    units: dict[str, set[str]] = defaultdict(set)
    for outcome in scored.outcomes:
        units[outcome.category].add(outcome.unit)
    apart = sum(map(len, units.values())) == len(scored.units)
    if not apart:
        return _by_doc(scored)
    return {
        name: {"score": score({u: scored.units[u] for u in units[name]}), "n": len(units[name])}
        for name in sorted(units)
    }


def _by_doc(scored: Scored) -> dict[str, dict[str, float]]:
    correct: dict[str, list[float]] = defaultdict(list)
    for outcome in scored.outcomes:
        correct[outcome.category].append(outcome.correct)
    return {
        name: {"score": 100 * sum(correct[name]) / len(correct[name]), "n": len(correct[name])}
        for name in sorted(correct)
    }


def _digest(docs: list[tuple[str, str, str]]) -> str:
    return hashlib.sha256(json.dumps(docs).encode()).hexdigest()[:12]
