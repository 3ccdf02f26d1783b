"""Questions that a row does not hold yet: two that are nearly the same would count twice."""

from collections.abc import Callable, Hashable, Iterator
from typing import TypeVar

TRIES = 400
T = TypeVar("T")


def fresh(
    units: int, make: Callable[[int], T], about: Callable[[T], set[Hashable]]
) -> Iterator[tuple[int, T]]:
    """Yield up to `units` numbers from 0 on, each with what is made for it.

    No two have anything in common of what they are `about`. It ends early where nothing such comes
    in TRIES draws: then there are too few pictures.
    """
    had: set[Hashable] = set()
    for number in range(units):
        drawn = (make(number) for _ in range(TRIES))
        new = next((made for made in drawn if not about(made) & had), None)
        if new is None:
            return
        had |= about(new)
        yield number, new
