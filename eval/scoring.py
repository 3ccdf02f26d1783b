"""Judge-free scores: what counts as right, intervals, and what guessing would give."""

import math
import random
import re
import string
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Z95 = 1.959964
ARTICLES = {"a", "an", "the"}


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
    said, wanted = normalise(answer).split(), normalise(expected).split()
    row = list(range(len(said) + 1))
    for i, word in enumerate(wanted, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(said, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != other))
    return row[-1], len(wanted)


def wilson(hits: float, n: int) -> tuple[float, float]:
    """95 % Wilson interval of a proportion, on 0–100."""
    if n == 0:
        return 0.0, 100.0
    p, z2 = hits / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)


def bootstrap(
    groups: Sequence[Sequence[Any]],
    statistic: Callable[[list[Any]], float],
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile interval of `statistic` over whole groups drawn with replacement."""
    rng = random.Random(seed)
    values = sorted(
        statistic([(k, item) for k in range(len(groups)) for item in rng.choice(groups)])
        for _ in range(draws)
    )
    return values[int(0.025 * draws)], values[min(draws - 1, int(0.975 * draws))]


def majority(labels: Sequence[Hashable]) -> float:
    """What the best constant answer scores, on 0–100."""
    return 100 * Counter(labels).most_common(1)[0][1] / len(labels) if labels else 0.0


def proportion(outcomes: list[Outcome], chance: float, **details: Any) -> Scored:
    """Share of right docs, with a Wilson interval."""
    hits, n = sum(outcome.correct for outcome in outcomes), len(outcomes)
    low, high = wilson(hits, n)
    return Scored(100 * hits / n, n, low, high, chance, outcomes, details)


def open_answers(outcomes: list[Outcome]) -> Scored:
    """Exact match after normalisation; chance is the most frequent expected answer.

    `details` scores yes/no questions apart: swapped sounds mostly change the type of a question,
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
    scored = open_answers(outcomes)
    pairs = [word_errors(o.answer, o.expected) for o in outcomes]
    words = sum(total for _, total in pairs)
    scored.details["wer"] = 100 * sum(errors for errors, _ in pairs) / max(1, words)
    return scored


def circular(outcomes: list[Outcome], options: dict[str, int], official: float) -> Scored:
    """MMBench: a question counts when every rotated copy is right. `options`: group -> choices.

    Raises:
        RuntimeError: the official score differs from the copies counted one by one.
    """
    copies: dict[str, list[float]] = {}
    for outcome in outcomes:
        copies.setdefault(outcome.group, []).append(outcome.correct)
    hits = sum(min(right) for right in copies.values())
    score = 100 * hits / len(copies)
    agree("circular accuracy", score, official)
    low, high = wilson(hits, len(copies))
    chance = 100 * sum((1 / options[g]) ** len(right) for g, right in copies.items()) / len(copies)
    one_by_one = 100 * sum(o.correct for o in outcomes) / len(outcomes)
    details = {"copies": len(outcomes), "accuracy_per_copy": one_by_one}
    return Scored(score, len(copies), low, high, chance, outcomes, details)


def yes_no_sets(
    docs: Sequence[dict[str, Any]], outcomes: list[Outcome], official: dict[str, float]
) -> Scored:
    """HallusionBench: mean of aAcc, qAcc and fAcc; interval by resampling whole sets.

    Raises:
        RuntimeError: the three official numbers differ from the docs counted one by one.
    """
    sets: dict[str, list[tuple[str, str, float]]] = {}
    for doc, outcome in zip(docs, outcomes, strict=True):
        item = (f"q{doc['question_id']}", f"f{doc['figure_id']}", outcome.correct)
        sets.setdefault(outcome.group, []).append(item)
    groups = list(sets.values())
    whole = [(k, item) for k, group in enumerate(groups) for item in group]
    accuracies = _a_q_f(whole)
    for name, value in zip(("aAcc", "qAcc", "fAcc"), accuracies, strict=True):
        agree(name, value, official[name])
    low, high = bootstrap(groups, lambda items: sum(_a_q_f(items)) / 3)
    chance = sum(_a_q_f(whole, guess=0.5)) / 3
    details = dict(zip(("aAcc", "qAcc", "fAcc"), accuracies, strict=True)) | {"sets": len(groups)}
    return Scored(sum(accuracies) / 3, len(outcomes), low, high, chance, outcomes, details)


def _a_q_f(
    items: Sequence[tuple[int, tuple[str, str, float]]], guess: float | None = None
) -> tuple[float, float, float]:
    """aAcc, qAcc, fAcc on 0–100; with `guess`, what random answers are expected to give."""
    by_question: dict[tuple[int, str], list[float]] = {}
    by_figure: dict[tuple[int, str], list[float]] = {}
    for key, (question, figure, correct) in items:
        value = correct if guess is None else guess
        by_question.setdefault((key, question), []).append(value)
        by_figure.setdefault((key, figure), []).append(value)
    answers = sum(correct if guess is None else guess for _, (_, _, correct) in items)
    return (
        100 * answers / len(items),
        100 * sum(map(math.prod, by_question.values())) / len(by_question),
        100 * sum(map(math.prod, by_figure.values())) / len(by_figure),
    )


def agree(name: str, ours: float, official: float) -> None:
    """Check that the docs counted one by one give what the official aggregation says.

    Raises:
        RuntimeError: they do not; the installed lmms-eval is not the one that this was written for.
    """
    if abs(ours - official) > 0.01:
        raise RuntimeError(
            f"{name}: lmms-eval says {official:.3f}, the docs counted one by one give {ours:.3f}; "
            "the installed lmms-eval scores this benchmark differently from what this row expects"
        )
