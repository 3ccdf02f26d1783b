"""How sure a score is, and whether two differ: everything by resampling whole units.

A unit is what belongs together: a doc, a circular question with its copies, a set of figures. Each
holds pairs (points, possible), one for each accuracy that the score is the mean of:

    score = 100 · mean over k of (Σ points[:, k] / Σ possible[:, k])

An accuracy of which nothing is possible, as in one category of many, is left out of the mean.

One pair (correct, 1) is plain accuracy, (errors, words) a word error rate, and three pairs are
HallusionBench. Equal units are counted, not listed, so thousands of resamples of 18,000 docs take
milliseconds.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

DRAWS = 4_000
PART = 4_000_000  # numbers drawn at once, 32 MB
Tallies = Mapping[str, Sequence[Sequence[float]]]  # unit -> its pairs (points, possible)
Z95 = 1.959964
DETECTABLE = Z95 + 0.841621  # standard errors: found at 5 %, two-sided, in 80 % of runs


class Interval(NamedTuple):
    """A 95 % interval, on 0–100."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A score minus another on the same units, on 0–100.

    `p`: how often a difference this large appears where each unit's two results are exchanged at
    random. `detectable`: the smallest true difference that would be found in four of five runs;
    None where no unit differs, for then nothing tells how much they vary.
    """

    score: float
    low: float
    high: float
    p: float
    detectable: float | None
    n: int


def wilson(hits: float, n: int) -> Interval:
    """95 % Wilson interval of a proportion."""
    if n == 0:
        return Interval(0.0, 100.0)
    p, z2 = hits / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return Interval(100 * max(0.0, centre - half), 100 * min(1.0, centre + half))


def score(tallies: Tallies) -> float:
    """The score of these units, on 0–100."""
    return float(_score(_table(tallies).sum(0)))


def interval(tallies: Tallies) -> Interval:
    """95 % percentile bootstrap.

    Where no resample can differ (all right, all wrong), the bootstrap would claim certainty; the
    Wilson interval of as many units stands in for it.
    """
    return mean_interval([tallies])


def mean_interval(rows: Sequence[Tallies]) -> Interval:
    """95 % interval of the plain mean of several scores, each resampled on its own.

    Rows that share questions (MMBench in two languages) vary together, which this ignores: their
    mean varies a little more than it says.
    """
    drawn = np.mean([_bootstrap(_table(row), seed) for seed, row in enumerate(rows)], axis=0)
    low, high = np.percentile(drawn, [2.5, 97.5])
    if high - low < 1e-9 and 0 <= low <= 100:  # more errors than words are no proportion
        units = sum(map(len, rows))
        return wilson(low / 100 * units, units)
    return Interval(float(low), float(high))


def compare(ours: Tallies, theirs: Tallies) -> Difference:
    """`ours` minus `theirs` over the units that both have.

    Raises:
        ValueError: there is no such unit.
    """
    return compare_means([(ours, theirs)])


def compare_means(pairs: Sequence[tuple[Tallies, Tallies]]) -> Difference:
    """The difference of the means of several rows, paired unit by unit within each row.

    Raises:
        ValueError: a row has no unit in common.
    """
    found, drawn, exchanged, units = [], [], [], 0
    for seed, (ours, theirs) in enumerate(pairs):
        common = sorted(ours.keys() & theirs.keys())
        if not common:
            raise ValueError("the two have no question in common")
        a, b = (_table({name: side[name] for name in common}) for side in (ours, theirs))
        units += len(common)
        found.append(_score(a.sum(0)) - _score(b.sum(0)))
        both = np.stack([a, b], 1)  # (units, 2, K, 2)
        drawn.append(_difference(_resample(both, seed)))
        exchanged.append(_difference(_exchange(both, seed)))
    difference, drawn = float(np.mean(found)), np.mean(drawn, axis=0)
    low, high = np.percentile(drawn, [2.5, 97.5])
    as_large = np.abs(np.mean(exchanged, axis=0)) >= abs(difference) - 1e-9
    p = (1 + int(as_large.sum())) / (1 + DRAWS)  # the observed assignment is one of them
    error = float(drawn.std())
    detectable = DETECTABLE * error if error > 1e-9 else None
    return Difference(difference, float(low), float(high), p, detectable, units)


def detectable(tallies: Tallies) -> float:
    """The difference between two independent runs of this row that would be found in four of five.

    Paired on the same questions, `compare` needs less.
    """
    return DETECTABLE * float(np.sqrt(2) * _bootstrap(_table(tallies), 0).std())


def _table(tallies: Tallies) -> np.ndarray:
    return np.array(list(tallies.values()), dtype=float)  # (units, K, 2)


def _score(sums: np.ndarray) -> np.ndarray:
    """(..., K, 2) sums of points and possible -> scores (...)."""
    points, possible = sums[..., 0], sums[..., 1]
    there = possible > 0
    shares = np.divide(points, possible, out=np.zeros_like(points), where=there)
    return 100 * shares.sum(-1) / np.maximum(1, there.sum(-1))


def _difference(sums: np.ndarray) -> np.ndarray:
    """(draws, 2, K, 2) -> (draws,)."""
    scores = _score(sums)
    return scores[:, 0] - scores[:, 1]


def _bootstrap(table: np.ndarray, seed: int) -> np.ndarray:
    return _score(_resample(table, seed))


def _resample(table: np.ndarray, seed: int) -> np.ndarray:
    """Sums over as many units drawn with replacement: (units, ...) -> (DRAWS, ...)."""
    kinds, counts = np.unique(table, axis=0, return_counts=True)
    rng = np.random.default_rng(seed)

    def drawn(size: int) -> np.ndarray:
        return rng.multinomial(len(table), counts / len(table), size=size)

    return _sums(drawn, kinds)


def _exchange(both: np.ndarray, seed: int) -> np.ndarray:
    """Sums where the two results of each unit change places at random: (DRAWS, 2, K, 2)."""
    kinds, counts = np.unique(both, axis=0, return_counts=True)
    rng = np.random.default_rng(seed)

    def exchanged(size: int) -> np.ndarray:
        return rng.binomial(counts, 0.5, size=(size, len(counts)))

    return both.sum(0) + _sums(exchanged, kinds[:, ::-1] - kinds)


def _sums(times: Callable[[int], np.ndarray], kinds: np.ndarray) -> np.ndarray:
    """Σ times · kinds for each draw; in parts, for scores of many values have many kinds."""
    most = max(1, PART // len(kinds))
    sizes = [min(most, DRAWS - start) for start in range(0, DRAWS, most)]
    return np.concatenate([np.tensordot(times(size), kinds, 1) for size in sizes])
