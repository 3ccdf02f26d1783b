"""What thinking longer is worth: Control, Scaling and Performance (arXiv 2501.19393, section 3)."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple


class Run(NamedTuple):
    """One evaluation with a budget of thinking.

    `tokens` are those of thinking of each answer, `low` and `high` what they were to be between;
    `score` is on 0 to 100.
    """

    budget: int
    tokens: Sequence[int]
    low: int
    high: int
    score: float

    @property
    def mean(self) -> float:
        """Tokens of thinking of an answer."""
        return sum(self.tokens) / max(1, len(self.tokens))


def control(runs: Sequence[Run]) -> float | None:
    """Return the share of answers, in per cent, whose thinking was as long as it was to be."""
    kept = [run.low <= tokens <= run.high for run in runs for tokens in run.tokens]
    return 100 * sum(kept) / len(kept) if kept else None


def scaling(points: Sequence[tuple[float, float]]) -> float | None:
    """Return the mean slope between any two of the points (tokens, score).

    In units of the score for each token. Two of equally many tokens have none; None where no two
    differ.
    """
    ordered = combinations(sorted(points), 2)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in ordered if b[0] > a[0]]
    return sum(slopes) / len(slopes) if slopes else None


def performance(points: Sequence[tuple[float, float]]) -> float:
    """Return the best score."""
    return max(score for _, score in points)
