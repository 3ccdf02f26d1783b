"""Formulas that make a target of given numbers, each used once: exact, and found at once."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

Numbers = tuple[int, ...]


class Term(NamedTuple):
    """A formula and how tightly its outermost operator binds: 0 sums, 1 products, 2 numbers."""

    text: str
    binds: int


def solve(numbers: Iterable[int], target: int) -> str | None:
    """Return a formula that equals the target, the same for every order; None if there is none."""
    return _solve(tuple(sorted(numbers)), Fraction(target))


@lru_cache(maxsize=1 << 16)
def _solve(numbers: Numbers, target: Fraction) -> str | None:
    if len(numbers) == 1 or not target:  # a product is 0 whatever its other factor is
        term = values(numbers).get(target)
        return term.text if term else None
    for ones, others in _halves(numbers):
        right = values(others)
        for value, term in values(ones).items():
            for wanted in _partners(value, target):
                if wanted in right:
                    for result, made in _joined((value, term), (wanted, right[wanted])):
                        if result == target:
                            return made.text
    return None


def _partners(value: Fraction, target: Fraction) -> Iterator[Fraction]:
    """What makes the target with a value, in one operation."""
    yield target - value
    yield value - target
    yield target + value
    yield target * value
    if value:
        yield target / value
        yield value / target


@lru_cache(maxsize=1 << 14)
def values(numbers: Numbers) -> dict[Fraction, Term]:
    """Return every value that formulas of all the numbers have, with one that has it."""
    if len(numbers) == 1:
        return {Fraction(numbers[0]): Term(str(numbers[0]), 2)}
    found: dict[Fraction, Term] = {}
    for ones, others in _halves(numbers):
        for one in values(ones).items():
            for other in values(others).items():
                for result, term in _joined(one, other):
                    found.setdefault(result, term)
    return found


def _halves(numbers: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """Every way to put sorted numbers into two groups, once for equal groups."""
    seen = set[tuple[Numbers, Numbers]]()
    for size in range(1, len(numbers) // 2 + 1):
        for places in combinations(range(len(numbers)), size):
            ones = tuple(numbers[i] for i in places)
            others = tuple(n for i, n in enumerate(numbers) if i not in places)
            if (ones, others) not in seen:
                seen.add((ones, others))
                yield ones, others


def _joined(
    one: tuple[Fraction, Term], other: tuple[Fraction, Term]
) -> Iterator[tuple[Fraction, Term]]:
    """Both values under every operator, in both orders where that matters."""
    (a, x), (b, y) = one, other
    yield a + b, Term(f"{x.text}+{y.text}", 0)
    yield a * b, Term(f"{_within(x, 1)}*{_within(y, 1)}", 1)
    for (c, left), (d, right) in ((one, other), (other, one)):
        yield c - d, Term(f"{left.text}-{_within(right, 1)}", 0)
        if d:
            yield c / d, Term(f"{_within(left, 1)}/{_within(right, 2)}", 1)


def _within(term: Term, binds: int) -> str:
    return term.text if term.binds >= binds else f"({term.text})"


def solvable(numbers: Sequence[int], target: int) -> bool:
    """Whether there is a formula."""
    return solve(numbers, target) is not None
