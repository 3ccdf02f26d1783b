"""Judge-free scores: what counts as right, intervals, and what guessing would give."""

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import editdistance

from .statistics import interval

ARTICLES = {"a", "an", "the"}
TOLERANCE = 0.01  # between a score and the same counted in another way


@dataclass
class Outcome:
    """One answered doc. `group` names what is resampled together (a circular question, a set)."""

    doc: str
    question: str
    expected: str
    answer: str
    correct: float
    group: str = ""
    category: str = ""  # as the benchmark itself divides its docs
    image: str = ""
    """a small copy of what was shown, below the folder of results; only of some that fail"""
    problem: str = ""
    """why there is no answer"""

    @property
    def unit(self) -> str:
        """What it is resampled with."""
        return self.group or self.doc


@dataclass
class Scored:
    """A score on 0–100, its 95 % interval, `n` units, and what guessing gives."""

    score: float
    n: int
    ci_low: float
    ci_high: float
    chance: float
    outcomes: list[Outcome]
    details: dict[str, Any] = field(default_factory=dict)
    units: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """`Outcome.unit` -> pairs (points, possible), see `statistics`"""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def normalise(text: str) -> str:
    """Lower case, no punctuation, no leading article, single spaces: "A lion." -> "lion".

    An article elsewhere may be what is asked for: "The letter a." -> "letter a".
    """
    text = re.sub(f"[{re.escape(string.punctuation)}]", " ", text.lower().replace("'", ""))
    words = text.split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ARTICLES else words)


def exact(answer: str, expected: str) -> float:
    """1.0 where the texts agree after normalisation."""
    return float(normalise(answer) == normalise(expected))


def word_errors(answer: str, expected: str) -> tuple[int, int]:
    """Substitutions, insertions and deletions between the normalised texts; words expected."""
    given, wanted = normalise(answer).split(), normalise(expected).split()
    return editdistance.eval(wanted, given), len(wanted)


def majority(labels: Sequence[Hashable]) -> float:
    """What the best constant answer scores, on 0–100."""
    return 100 * Counter(labels).most_common(1)[0][1] / len(labels) if labels else 0.0


def proportion(outcomes: list[Outcome], chance: float, **details: Any) -> Scored:
    """Mean of what the docs scored; docs of one group are resampled together."""
    units: dict[str, list[tuple[float, float]]] = {}
    for o in outcomes:
        [(points, possible)] = units.get(o.unit, [(0.0, 0.0)])
        units[o.unit] = [(points + o.correct, possible + 1)]
    score = 100 * sum(o.correct for o in outcomes) / len(outcomes)
    return Scored(score, len(outcomes), *interval(units), chance, outcomes, details, units)


def open_answers(outcomes: list[Outcome]) -> Scored:
    """Exact match after normalisation; chance is the most frequent expected answer.

    `details` scores yes/no questions apart: shuffled sounds mostly change the type of a question,
    which is easier to hear than the noun in it.
    """
    scored = proportion(outcomes, majority([normalise(o.expected) for o in outcomes]))
    by_type: dict[str, list[float]] = {}
    for o in outcomes:
        kind = "yes/no" if normalise(o.expected) in ("yes", "no") else "open"
        by_type.setdefault(kind, []).append(o.correct)
    if len(by_type) > 1:
        scored.details |= {k: round(100 * sum(v) / len(v), 1) for k, v in by_type.items()}
    return scored


def transcripts(outcomes: list[Outcome]) -> Scored:
    """Exact match, with the word error rate (per cent) beside it in `details`."""
    scored = proportion(outcomes, majority([normalise(o.expected) for o in outcomes]))
    pairs = [word_errors(o.answer, o.expected) for o in outcomes]
    words = sum(total for _, total in pairs)
    scored.details["wer"] = 100 * sum(errors for errors, _ in pairs) / max(1, words)
    return scored


def by_errors(outcomes: list[Outcome], split: Callable[[str], Sequence[str]]) -> Scored:
    """100 less the rate of wrong units, at least 0; `details` has the rate as `error_rate`.

    Args:
        outcomes: answers and what was expected.
        split: a text -> its units: words or characters.
    """
    rescored, units = [], {}
    for o in outcomes:
        wanted = split(o.expected)
        wrong, length = editdistance.eval(wanted, split(o.answer)), max(1, len(wanted))
        rescored.append(replace(o, correct=max(0.0, 1 - wrong / length)))
        units[o.doc] = [(float(length - wrong), float(length))]
    points = sum(pairs[0][0] for pairs in units.values())
    rate = 100 - 100 * points / sum(pairs[0][1] for pairs in units.values())
    low, high = (max(0.0, end) for end in interval(units))
    details = {"error_rate": rate}
    return Scored(max(0.0, 100 - rate), len(units), low, high, 0.0, rescored, details, units)


def words_right(outcomes: list[Outcome]) -> Scored:
    """100 less the word error rate, which is in `details`; sentences are resampled whole."""
    scored = by_errors(outcomes, lambda text: normalise(text).split())
    scored.details["wer"] = scored.details["error_rate"]
    return scored


def circular(outcomes: list[Outcome], options: dict[str, int], official: float) -> Scored:
    """MMBench: a question counts when every rotated copy is right. `options`: group -> choices.

    Raises:
        RuntimeError: the official score differs from the copies counted one by one.
    """
    copies: dict[str, list[float]] = {}
    for outcome in outcomes:
        copies.setdefault(outcome.group, []).append(outcome.correct)
    units = {group: [(min(right), 1.0)] for group, right in copies.items()}
    score = 100 * sum(min(right) for right in copies.values()) / len(copies)
    agree("circular accuracy", score, official)
    chance = 100 * sum((1 / options[g]) ** len(right) for g, right in copies.items()) / len(copies)
    one_by_one = 100 * sum(o.correct for o in outcomes) / len(outcomes)
    details = {"copies": len(outcomes), "accuracy_per_copy": one_by_one}
    return Scored(score, len(copies), *interval(units), chance, outcomes, details, units)


def yes_no_sets(
    docs: Sequence[dict[str, Any]], outcomes: list[Outcome], official: dict[str, float]
) -> Scored:
    """HallusionBench: mean of aAcc, qAcc and fAcc; interval by resampling whole sets.

    Raises:
        RuntimeError: the three official numbers differ from the docs counted one by one.
    """
    sets: dict[str, list[tuple[str, str, float]]] = {}
    for doc, outcome in zip(docs, outcomes, strict=True):
        item = (doc["question_id"], doc["figure_id"], outcome.correct)
        sets.setdefault(outcome.group, []).append(item)
    units = {name: a_q_f(items) for name, items in sets.items()}
    accuracies = dict(zip(("aAcc", "qAcc", "fAcc"), _shares(units), strict=True))
    for name, value in accuracies.items():
        agree(name, value, official[name])
    guessing = {name: a_q_f([(q, f, 0.5) for q, f, _ in items]) for name, items in sets.items()}
    chance, score = sum(_shares(guessing)) / 3, sum(accuracies.values()) / 3
    details = accuracies | {"sets": len(sets)}
    return Scored(score, len(outcomes), *interval(units), chance, outcomes, details, units)


def a_q_f(items: Sequence[tuple[str, str, float]]) -> list[tuple[float, float]]:
    """(points, possible) of answers, of questions and of figures of one set.

    A question counts where it is right on all its figures, a figure where all its questions are;
    a figure "" is none.
    """
    questions: dict[str, list[float]] = {}
    figures: dict[str, list[float]] = {}
    for question, figure, correct in items:
        questions.setdefault(question, []).append(correct)
        if figure:
            figures.setdefault(figure, []).append(correct)
    answers = sum(correct for *_, correct in items)
    whole = [(sum(map(math.prod, kind.values())), len(kind)) for kind in (questions, figures)]
    return [(answers, len(items)), *whole]


def _shares(units: dict[str, list[tuple[float, float]]]) -> list[float]:
    """Each accuracy over all units, on 0–100."""
    return [
        100 * sum(points for points, _ in pairs) / sum(possible for _, possible in pairs)
        for pairs in zip(*units.values(), strict=True)
    ]


def agree(name: str, ours: float, official: float) -> None:
    """Check that the docs counted one by one give what the official aggregation says.

    Raises:
        RuntimeError: they do not; the installed lmms-eval is not the one that this was written for.
    """
    if abs(ours - official) > TOLERANCE:
        raise RuntimeError(
            f"{name}: lmms-eval says {official:.3f}, the docs counted one by one give {ours:.3f}; "
            "the installed lmms-eval scores this benchmark differently from what this row expects"
        )
