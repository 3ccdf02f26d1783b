"""Intervals and paired differences: against closed forms, and by counting how often they hold."""

import numpy as np
import pytest

from eval.scoring.right import Outcome, proportion
from eval.scoring.statistics import (
    compare,
    compare_means,
    detectable,
    interval,
    mean_interval,
    score,
    wilson,
)


def docs(right: list[float]) -> dict[str, list[tuple[float, float]]]:
    return {str(k): [(value, 1.0)] for k, value in enumerate(right)}


def test_wilson_against_known_values():
    assert wilson(0, 10) == pytest.approx((0.0, 27.75), abs=0.01)
    assert wilson(5, 10) == pytest.approx((23.66, 76.34), abs=0.01)
    low, high = wilson(100, 100)
    assert 96 < low < 97
    assert high == 100


def test_a_score_is_the_mean_of_its_accuracies():
    assert score(docs([1, 0, 0.3, 0.7])) == pytest.approx(50)
    errors = {"a": [(1, 10)], "b": [(3, 2)]}
    assert score(errors) == pytest.approx(100 * 4 / 12)  # of all words, not the mean of two rates
    assert score({"set": [(3, 4), (1, 2), (0, 2)]}) == pytest.approx((75 + 50 + 0) / 3)


def test_whole_units_are_resampled():
    """Twenty groups of four: as independent docs they would give about 39 to 61."""
    outcomes = [
        Outcome(f"{g}{k}", "", "", "", float(g < 10), f"group{g}")
        for g in range(20) for k in range(4)
    ]  # fmt: skip
    scored = proportion(outcomes, 0)
    assert (scored.score, scored.n) == (50, 80)
    assert 25 <= scored.ci_low <= 35
    assert 65 <= scored.ci_high <= 75
    assert proportion(outcomes, 0).ci_low == scored.ci_low  # no luck involved


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_no_interval_claims_certainty(right):
    assert interval(docs([right] * 10)) == wilson(10 * right, 10)
    low, high = mean_interval([docs([right] * 10)] * 10)
    assert (low, high) == wilson(100 * right, 100)


def test_scores_of_many_values_are_drawn_in_parts():
    values = np.random.default_rng(0).random(1500)
    low, high = interval(docs(values))
    half = 196 * values.std() / np.sqrt(1500)
    middle = 100 * values.mean()
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=0.15)


def test_a_score_below_zero_has_an_interval():
    assert interval({"a": [(-3, 2)]}) == (-150, -150)  # 100 − WER of one hopeless answer


def test_intervals_hold_as_often_as_they_say():
    rng = np.random.default_rng(0)
    held = sum(
        low <= 60 <= high
        for low, high in (interval(docs(rng.random(120) < 0.6)) for _ in range(200))
    )
    assert 180 <= held <= 198


def test_the_interval_of_a_mean_is_that_of_independent_rows():
    row = docs([1, 0] * 50)
    low, high = interval(row)
    mean_low, mean_high = mean_interval([row] * 4)
    assert (mean_high - mean_low) == pytest.approx((high - low) / 2, rel=0.06)


def test_pairing_finds_what_two_intervals_hide():
    worse = [1.0] * 50 + [0.0] * 50
    better = [1.0] * 60 + [0.0] * 40
    assert interval(docs(better)).low < interval(docs(worse)).high
    found = compare(docs(better), docs(worse))
    assert found.score == pytest.approx(10)
    assert found.n == 100
    assert found.low > 0
    # ten docs of a hundred differ, all one way: a sign test says 2 / 2^10
    assert found.p == pytest.approx(2 / 2**10, abs=0.0015)
    assert found.detectable == pytest.approx(2.802 * 100 * np.sqrt(0.1 * 0.9 / 100), rel=0.05)
    assert found.detectable < detectable(docs(worse))
    swapped = compare(docs(worse), docs(better))
    assert (swapped.score, swapped.p) == (-found.score, pytest.approx(found.p, abs=0.0015))


def test_p_is_uniform_where_nothing_differs_and_small_where_something_does():
    rng = np.random.default_rng(1)

    def p(shift: float) -> float:
        both = rng.random((2, 100)) < np.array([[0.5 + shift], [0.5]])
        return compare(docs(both[0]), docs(both[1])).p

    assert sum(p(0.0) < 0.05 for _ in range(60)) <= 8
    assert sum(p(0.25) < 0.05 for _ in range(20)) >= 16


def test_identical_answers_differ_by_nothing():
    found = compare(docs([1, 0, 1]), docs([1, 0, 1]))
    assert (found.score, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert found.detectable is None


def test_only_common_units_are_compared():
    found = compare({"a": [(1, 1)], "b": [(0, 1)]}, {"b": [(0, 1)], "c": [(1, 1)]})
    assert (found.n, found.score) == (1, 0)
    with pytest.raises(ValueError, match="no question in common"):
        compare({"a": [(1, 1)]}, {"b": [(1, 1)]})


def test_the_mean_of_rows_is_compared_row_by_row():
    better, worse = docs([1] * 60 + [0] * 40), docs([1] * 50 + [0] * 50)
    same = docs([1, 0] * 50)
    found = compare_means([(better, worse), (same, same)])
    assert found.score == pytest.approx(5)
    assert found.low > 0
    assert found.n == 200
