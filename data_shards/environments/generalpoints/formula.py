"""Formulas of whole numbers, + - * / and parentheses: parsed within limits, computed exactly."""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

LONGEST, DEEPEST = 400, 40  # characters, and signs or parentheses within one another
_TOKEN = re.compile(r"\s*(?:([0-9]+)|([-+*/()]))")


class FormulaError(ValueError):
    """A text that is no formula; says what is wrong with it."""


class Formula(NamedTuple):
    """The value, None where a division by zero is in it, and the numbers as they are written."""

    value: Any
    numbers: tuple[int, ...]


def parse_equation(text: str) -> list[Formula]:
    """Parse formulas with = between them; the first is the formula, the others what it equals.

    Raises:
        FormulaError: see `parse`.
    """
    if len(text) > LONGEST:
        raise FormulaError(f"it has {len(text):,} characters, of {LONGEST} at most")
    return [parse(side) for side in text.split("=")]


def parse(text: str, number: Callable[[int], Any] = Fraction) -> Formula:
    """Parse one formula, and compute it with what `number` makes of its numbers: exactly.

    Raises:
        FormulaError: it is longer or deeper than the limits, or not a formula.
    """
    if len(text) > LONGEST:
        raise FormulaError(f"it has {len(text):,} characters, of {LONGEST} at most")
    parser = _Parser(_tokens(text), number)
    value = parser.sum(0)
    if parser.next:
        raise FormulaError(f"{parser.next!r} is not expected after a number or ')'")
    return Formula(value, tuple(parser.numbers))


def _tokens(text: str) -> list[str]:
    text = text.rstrip()
    found, at = list[str](), 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise FormulaError(f"{text[at:].lstrip()[0]!r} is no number, operator or parenthesis")
        token = match[1] or match[2]
        if len(token) > 1 and token[0] == "0":
            raise FormulaError(f"the number {token} begins with 0")
        found.append(token)
        at = match.end()
    if not found:
        raise FormulaError("it is empty")
    return found


class _Parser:
    """Recursive descent; a value is None once zero divided something."""

    def __init__(self, tokens: list[str], number: Callable[[int], Any]):
        self.left, self.number = tokens[::-1], number
        self.numbers: list[int] = []

    @property
    def next(self) -> str:
        return self.left[-1] if self.left else ""

    def sum(self, depth: int) -> Any:
        value = self.product(depth)
        while self.next in ("+", "-"):
            sign = self.left.pop()
            other = self.product(depth)
            if value is None or other is None:
                value = None
            else:
                value = value + other if sign == "+" else value - other
        return value

    def product(self, depth: int) -> Any:
        value = self.factor(depth)
        while self.next in ("*", "/"):
            sign = self.left.pop()
            other = self.factor(depth)
            if value is None or other is None or (sign == "/" and not other):
                value = None
            else:
                value = value * other if sign == "*" else value / other
        return value

    def factor(self, depth: int) -> Any:
        if depth > DEEPEST:
            raise FormulaError(f"it nests deeper than {DEEPEST}")
        if not self.left:
            raise FormulaError("it ends where a number is expected")
        token = self.left.pop()
        if token.isdecimal():
            self.numbers.append(int(token))
            return self.number(int(token))
        if token == "(":
            value = self.sum(depth + 1)
            if self.next != ")":
                raise FormulaError(f"{self.next!r} is not expected" if self.left
                                   else "a ( is not closed")  # fmt: skip
            self.left.pop()
            return value
        if token in ("+", "-"):
            value = self.factor(depth + 1)
            return value if token == "+" or value is None else -value
        raise FormulaError(f"{token!r} stands where a number is expected")
