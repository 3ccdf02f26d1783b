"""The share of right docs, for the many benchmarks that ask for no more than that."""

from collections.abc import Callable
from typing import Any

from ..lmms.bridge import TaskResult
from ..scoring.right import Scored, agree, majority
from ..scoring.statistics import interval
from ..scoring.statistics import score as score_of
from .outcome import outcome

Doc = dict[str, Any]


def share(
    metric: str,
    truth: Callable[[Doc], str],
    *,
    points: Callable[[Any], float] = float,
    scale: float = 100.0,
    question: str = "question",
    category: Callable[[Doc], str] = lambda doc: "",
    group: Callable[[Doc], str] = lambda doc: "",
    part: Callable[[Doc], str] = lambda doc: "",
    options: Callable[[Doc], int] | None = None,
    answered_only: bool = False,
) -> Callable[[TaskResult], Scored]:
    """A scorer: what the official code gave each doc, averaged, and the same over all.

    Args:
        metric: name of the official result, in each sample and over all.
        truth: doc -> the expected answer.
        points: the sample's `metric` -> 0..1.
        scale: what the official number over all is multiplied by to lie on 0–100.
        question: column of the question.
        category: doc -> its part of the benchmark, for the breakdown.
        group: doc -> what it is resampled with.
        part: doc -> a part of which the score is the mean over parts.
        options: doc -> how many answers there are to choose from, for chance; without it, chance
            is the best constant answer.
        answered_only: the official number leaves out empty answers, which are wrong here.
    """

    def score(result: TaskResult) -> Scored:
        parts = sorted({part(sample["doc"]) for sample in result.samples})
        units: dict[str, list[tuple[float, float]]] = {}
        outcomes, guessed = [], 0.0
        for sample in result.samples:
            doc, right = sample["doc"], points(sample[metric])
            asked, expected = str(doc[question]), str(truth(doc))
            outcomes.append(outcome(sample, asked, expected, right, group(doc), category(doc)))
            guessed += 100 / options(doc) if options else 0
            pairs = units.setdefault(outcomes[-1].unit, [(0.0, 0.0)] * len(parts))
            k = parts.index(part(doc))
            pairs[k] = pairs[k][0] + right, pairs[k][1] + 1
        value, official = score_of(units), scale * result.metrics[metric]
        if not answered_only or all(o.answer for o in outcomes):
            agree(metric, value, official)
        chance = guessed / len(outcomes) if options else majority([o.expected for o in outcomes])
        return Scored(value, len(outcomes), *interval(units), chance, outcomes, {}, units)

    return score


def column(name: str) -> Callable[[Doc], str]:
    """Return a function: doc -> what stands in that column."""
    return lambda doc: doc[name]


def mean_of(name: str) -> Callable[[list[Doc]], float]:
    """Return an aggregation of official results: the mean of what they hold under that name."""
    return lambda results: sum(found[name] for found in results) / len(results)


def letter(number: Any) -> str:
    """0 -> A."""
    return chr(ord("A") + int(number))


def letter_of(options: str, answer: str = "answer") -> Callable[[Doc], str]:
    """Return a function: doc -> the letter of the answer among the options in that column."""
    return lambda doc: letter(doc[options].index(doc[answer]))


def letter_at(name: str) -> Callable[[Doc], str]:
    """Return a function: doc -> the letter of the number in that column."""
    return lambda doc: letter(doc[name])


def number_of(options: str) -> Callable[[Doc], int]:
    """Return a function: doc -> how many options there are in that column."""
    return lambda doc: len(doc[options])
