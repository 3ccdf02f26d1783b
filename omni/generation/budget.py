"""How much a model thinks before it answers (budget forcing, arXiv 2501.19393)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..nearest import nearest
from .thinking import CLOSING, TAGS


@dataclass(frozen=True)
class Budget:
    """How many tokens of thinking go before an answer; they do not count as tokens of it.

    Args:
        max: most tokens, those of `wait` included; then thinking is closed and `final` begins the
            answer. 0: none at all.
        min: fewest, unless `max` cuts it: an end before them is not taken, and `wait` goes on.
        ignore_end: ends that are not taken either, whenever they come.
        wait: words put in the place of an end that is not taken.
        marker: the tag that opens thinking, where the prompt does not end with one already.
        final: words that begin an answer whose thinking was cut; its text is without them.

    Raises:
        ValueError: a value out of its range; names the field, what it must be and what it is.
    """

    max: int
    min: int = 0
    ignore_end: int = 0
    wait: str = "Wait"
    marker: str = "<think>"
    final: str = "Final Answer:"

    def __post_init__(self) -> None:
        for name in ("max", "min", "ignore_end"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ValueError(f"thinking.{name} must be a whole number from 0, not {value!r}")
        if self.min > self.max:
            raise ValueError(f"thinking.min must be at most max, {self.max}, not {self.min}")
        for name in ("wait", "final"):
            value = getattr(self, name)
            if not isinstance(value, str) or any(tag in value.lower() for tag in TAGS):
                raise ValueError(f"thinking.{name} must be words, not {value!r}")
        if not self.wait.strip():
            raise ValueError(f"thinking.wait must be words, not {self.wait!r}")
        if not isinstance(self.marker, str) or self.marker.lower() not in CLOSING:
            hint = nearest(self.marker, CLOSING)
            raise ValueError(f"thinking.marker must open thinking, not {self.marker!r}; {hint}")

    @classmethod
    def of(cls, value: Any) -> "Budget":
        """Return a budget as it is, or make it of a mapping.

        Raises:
            ValueError: it is neither, or has an unknown key (the nearest is named).
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping) or "max" not in value:
            raise ValueError(f"thinking must be None or a mapping with max, not {value!r}")
        known = [field.name for field in fields(cls)]
        for name in value:
            if name not in known:
                raise ValueError(f"thinking has no {name!r}; {nearest(name, known)}")
        return cls(**value)
