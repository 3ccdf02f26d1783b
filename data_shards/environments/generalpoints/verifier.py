"""Is an answer a formula of these cards that makes the target? Exact, without partial credit."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..answers import Unread, check_length, last_object
from ..base import Verdict
from .formula import FormulaError, parse_equation

CORRECT, WRONG_VALUE, WRONG_CARDS, WRONG_NUMBERS, ILLEGAL = 5.0, -1.0, -1.5, -2.0, -3.0
EXHAUSTED = -1.0


def verify(
    answer: str, form: str, numbers: Sequence[int], target: int, shown: Sequence[str] | None
) -> Verdict:
    """Judge an answer.

    Args:
        answer: any string.
        form: "json": an object with the cards and the formula; "formula": that alone.
        numbers: what the cards count.
        target: what the formula is to make.
        shown: the cards, in any order, where an answer is to name them; None where it is not.
    """
    try:
        given = _read(answer, form)
    except Unread as error:
        return failed(ILLEGAL, str(error))
    if shown is not None and form == "json" and _named(given) != sorted(shown):
        return failed(WRONG_CARDS, "you named other cards than those that you were given")
    try:
        first, *others = parse_equation(given["formula"])
    except FormulaError as error:
        return failed(ILLEGAL, f"the formula is illegal: {error}")
    if wrong := _wrong_numbers(first.numbers, numbers):
        return failed(WRONG_NUMBERS, wrong)
    for side in (first, *others):
        if side.value is None:
            return failed(WRONG_VALUE, "the formula divides by zero")
        if side.value != target:
            return failed(WRONG_VALUE, f"the formula equals {side.value}, not {target}")
    return Verdict(CORRECT, True, True, "Correct.")


def _read(answer: str, form: str) -> dict[str, Any]:
    if form == "json":
        return last_object(answer, "formula")
    check_length(answer)
    return {"formula": answer.strip()}


def _named(given: dict[str, Any]) -> list[str]:
    """The cards that an answer names, sorted; a number stands for the card that shows it."""
    cards = given.get("cards")
    return sorted(str(card).strip().upper() for card in cards) if isinstance(cards, list) else []


def failed(reward: float, why: str) -> Verdict:
    """Return what an attempt that failed is paid, and what is said before the next one."""
    return Verdict(reward, False, False, f"You failed this trial because {why}.")


def _wrong_numbers(used: Sequence[int], numbers: Sequence[int]) -> str:
    have, found = Counter(numbers), Counter(used)
    if strange := sorted(found.keys() - have.keys()):
        return f"you used numbers that no card has: {_listed(strange)}"
    if over := sorted((found - have).keys()):
        return f"you used numbers too often: {_listed(over)}"
    if under := sorted((have - found).keys()):
        return f"you did not use all numbers: {_listed(under)} are left"
    return ""


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(number)[:20] for number in numbers[:8])
