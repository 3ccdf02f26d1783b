"""Is an answer a formula of these cards that makes the target? Exact, without partial credit."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from .base import Verdict
from .formula import FormulaError, parse_equation

CORRECT, WRONG_VALUE, WRONG_CARDS, WRONG_NUMBERS, ILLEGAL = 5.0, -1.0, -1.5, -2.0, -3.0
EXHAUSTED = -1.0
LONGEST = 20_000  # characters of an answer
_OBJECT = re.compile(r"\{[^{}]*\}")
_NAME = r"""["']?{}["']?\s*:\s*"""
_FORMULA = re.compile(_NAME.format("formula") + r"""(["'])(.*?)\1""", re.DOTALL)
_CARDS = re.compile(_NAME.format("cards") + r"\[([^\]]*)\]")


class Read(NamedTuple):
    """What an answer says; cards are None where it says none."""

    formula: str
    cards: list[str] | None


class Unread(ValueError):  # noqa: N818 - reads as what it is
    """An answer of another form than the prompt asks for; says how."""


def read(answer: str, form: str) -> Read:
    """Read an answer: the formula itself, or the last object of json that has one.

    An object may also be written as the prompt's template is: with single quotes, words without
    any, and a comma at its end. What begins another object and does not end it was cut.

    Raises:
        Unread: see above.
    """
    if len(answer) > LONGEST:
        raise Unread(f"the answer has {len(answer):,} characters, of {LONGEST:,} at most")
    if form == "formula":
        return Read(answer.strip(), None)
    found = [match for match in _OBJECT.finditer(answer) if "formula" in match[0]]
    if not found:
        raise Unread('the answer has no whole {...} with a "formula"')
    if "{" in _OBJECT.sub("", answer[found[-1].end() :]):
        raise Unread("the answer was cut: its last { has no }")
    return _fields(found[-1][0])


def _fields(text: str) -> Read:
    """Raise Unread where the object has no formula that is a string."""
    try:
        row: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError):
        formulas, cards = _FORMULA.findall(text), _CARDS.findall(text)
        if not formulas:
            raise Unread('the answer has no "formula" in quotes') from None
        named = [re.sub(r"[\s\"']", "", card).upper() for card in cards[-1].split(",")] \
            if cards else None  # fmt: skip
        return Read(formulas[-1][1], named)
    formula, cards = row.get("formula"), row.get("cards")
    if not isinstance(formula, str):
        raise Unread('the answer\'s "formula" is not a string')
    named = [str(card).strip().upper() for card in cards] if isinstance(cards, list) else None
    return Read(formula, named)


def verify(
    answer: str, form: str, numbers: Sequence[int], target: int, shown: Sequence[str] | None
) -> Verdict:
    """Judge an answer.

    Args:
        answer: any string.
        form: "json" or "formula", see `read`.
        numbers: what the cards count.
        target: what the formula is to make.
        shown: the cards, in any order, where an answer is to name them; None where it is not.
    """
    try:
        given = read(answer, form)
    except Unread as error:
        return failed(ILLEGAL, str(error))
    if shown is not None and form == "json" and sorted(given.cards or []) != sorted(shown):
        return failed(WRONG_CARDS, "you named other cards than those that you were given")
    try:
        first, *others = parse_equation(given.formula)
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
