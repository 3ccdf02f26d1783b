"""The rewards of the published GeneralPoints code with all its faults, to compare with.

arXiv 2501.17161, rl/utils_rl.py and gym_cards. Faults that change rewards: floats decide whether a
formula is right; a formula without its last parenthesis is paid +1 where it begins a solution that
was listed; spaces are illegal; violations add up; valid json names no cards.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache, partial
from itertools import permutations, product

from ..base import Verdict
from .formula import FormulaError, parse
from .verifier import CORRECT, ILLEGAL, WRONG_CARDS, WRONG_NUMBERS, WRONG_VALUE, failed

PARTIAL = 1.0
CARDS = 4
_SPANS = (((0, 2),), ((0, 3),), ((1, 3),), ((1, 4),), ((2, 4),), ((0, 2), (2, 4)))
"""where the published solver puts parentheses: around cards [first, end)"""


def verify(
    answer: str, numbers: Sequence[int], target: int, shown: Sequence[str] | None
) -> Verdict:
    """Judge an answer as the published code does; the arguments are those of `verifier.verify`."""
    if shown is not None and sorted(_cards(answer)) != sorted(shown):
        return failed(WRONG_CARDS, "you recognized wrong cards")
    solutions = partial(listed_solutions, tuple(sorted(numbers)), target)
    formula = _field(answer, "formula").split("=")[0]
    reward, reasons = step_reward(formula, numbers, target, solutions)
    if reward == CORRECT:
        return Verdict(CORRECT, True, True, "Correct.")
    return failed(reward, ", ".join(reasons))


def _field(answer: str, name: str) -> str:
    try:
        value = json.loads(answer)[name]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        match = re.search(rf'"{name}": "(.*?)"', answer)
        return match[1] if match else "None"
    return value if isinstance(value, str) else "None"


def _cards(answer: str) -> list[str]:
    """Read the cards of what is not json, unless all are numbers; else none are found."""
    try:
        json.loads(answer)["cards"]
        return []
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        match = re.search(r'"cards": \[([^\]]+)\]', answer)
    if match is None or re.fullmatch(r"\s*\d+\s*(, \s*\d+\s*)*", match[1]):
        return []
    found = re.sub(r"[\[\]' ]", "", match[1]).split(",")
    return found if len(found) == CARDS else []


def step_reward(
    formula: str, numbers: Sequence[int], target: int, solutions: Callable[[], Collection[str]]
) -> tuple[float, list[str]]:
    """Return what a formula is paid where these solutions are listed, and why.

    They are asked for where the reward depends on them alone: to list them takes half a second.
    """
    tokens = re.findall(r"[0-9]+|[+\-*/()]", formula)
    if "".join(tokens) != formula:
        return ILLEGAL, ["illegal characters"]
    paid = [(ILLEGAL, why) for why in _bad_sequences(tokens)] + _bad_numbers(tokens, numbers)
    if paid:
        return sum(reward for reward, _ in paid), [why for _, why in paid]
    try:
        if _as_float(formula) == target:
            return CORRECT, ["correct"]
    except (FormulaError, ZeroDivisionError):
        if any(text.startswith(formula) for text in solutions()):
            return PARTIAL, ["partial solution"]
    for end in range(1, len(tokens) + 1):
        if not any(text.startswith("".join(tokens[:end])) for text in solutions()):
            return WRONG_VALUE, ["the formula does not match any solution"]
    return 0.0, [""]


def _bad_sequences(tokens: Sequence[str]) -> Iterator[str]:
    before, depth = "", 0
    for token in tokens:
        kind = "number" if token.isdecimal() else token
        after_value = before in ("number", ")")
        if kind in ("number", "("):
            if after_value:
                yield f"invalid sequence at {token}"
            elif kind == "(":
                depth += 1
        elif not after_value:
            yield f"invalid sequence at {token}"
        elif kind == ")":
            if not depth:
                yield "unmatched closing parenthesis"
            depth = max(0, depth - 1)
        before = kind


def _bad_numbers(tokens: Sequence[str], numbers: Sequence[int]) -> list[tuple[float, str]]:
    have, used = Counter(numbers), Counter(int(token) for token in tokens if token.isdecimal())
    paid = []
    if used.keys() - have.keys():
        paid.append((WRONG_NUMBERS, "you used invalid numbers"))
    elif used - have:
        paid.append((WRONG_NUMBERS, "you used numbers too many times"))
    if have - used:
        paid.append((WRONG_NUMBERS, "you didn't use all numbers"))
    return paid


def _as_float(formula: str) -> float:
    """Raise FormulaError where it is none, ZeroDivisionError where it divides by zero."""
    value = parse(formula, int).value
    if value is None:
        raise ZeroDivisionError(formula)
    return value


@lru_cache(maxsize=1 << 10)
def listed_solutions(numbers: tuple[int, ...], target: int) -> frozenset[str]:
    """Return what the published solver lists: one pair of parentheses, or two side by side."""
    found = set[str]()
    for order in set(permutations(numbers)):
        for signs in product("+-*/", repeat=len(order) - 1):
            for spans in ((), *_SPANS):
                text = _written(order, signs, spans)
                if parse(text).value == target:
                    found.add(text)
    return frozenset(found)


def _written(order: Sequence[int], signs: Sequence[str], spans: Sequence[tuple[int, int]]) -> str:
    parts = list[str]()
    for place, number in enumerate(order):
        opened = "(" * sum(first == place for first, _ in spans)
        closed = ")" * sum(end == place + 1 for _, end in spans)
        parts += (signs[place - 1] if place else "", opened, str(number), closed)
    return "".join(parts)
