"""Whether a sampled answer is right, by the real one beside it."""

import re
from collections.abc import Callable, Mapping

from data_shards.sources.verdicts import verdicts_of

_CONCLUSION = re.compile(r"conclusion:\s*(right|wrong)\b", re.IGNORECASE)
_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")


def _judged(text: str) -> tuple[str, ...] | None:
    found = verdicts_of(text)
    return None if None in found else tuple(map(str, found))


def _concluded(text: str) -> str | None:
    found = _CONCLUSION.findall(text)
    return found[-1].lower() if found else None


def _number(text: str) -> str | None:
    found = _NUMBER.findall(text)
    return found[-1] if found else None


RULES: Mapping[str, Callable[[str], object]] = {
    "guard": _judged, "conclusion": _concluded, "number": _number, "text": str.strip,
}  # fmt: skip
"""rule -> what it reads in an answer, None where that is not there: the three verdicts of a guard
model, the last conclusion of a critique, the last number, or all of the text"""


def is_right(rule: str, real: str, own: str) -> bool:
    """Return whether an own answer says what the real one does; what cannot be read does not.

    Raises:
        ValueError: the real answer itself cannot be read.
    """
    expected = RULES[rule](real)
    if expected is None:
        raise ValueError(f"its real answer has nothing that the rule {rule} reads")
    return RULES[rule](own) == expected
