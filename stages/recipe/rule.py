"""What a recipe says of a pattern: a learning rate, or a mapping of a few numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from omni.entry import EntryError
from omni.nearest import nearest


@dataclass(frozen=True)
class Rule:
    """How the parameters of a pattern are trained; what is None is the stage's."""

    lr: float = 0.0
    """0: not at all"""
    weight_decay: float | None = None
    warmup: float | None = None
    """share of the steps"""


@dataclass(frozen=True)
class Lora(Rule):
    """Adapters beside the linear layers of a pattern; `lr` None is that of `trainable`."""

    lr: float | None = None  # type: ignore[assignment]
    r: float = 16
    """rank"""
    alpha: float = 32
    """the product of an adapter's two matrices counts alpha / r"""
    dropout: float = 0.0


def numbers(patterns: Mapping[str, Any], kind: type[Rule]) -> dict[str, Any]:
    """Return what a recipe says of each pattern as floats, checked; null is 0, which freezes.

    Raises:
        EntryError: an unknown key (the nearest is named), no number, or one out of range.
    """
    read: dict[str, Any] = {}
    for pattern, value in patterns.items():
        if isinstance(value, Mapping):
            known = [field.name for field in fields(kind)]
            read[pattern] = {key: _number(pattern, key, v, known) for key, v in value.items()}
            if kind is Rule and "lr" not in value:
                raise EntryError(f"trainable {pattern!r}: needs lr (0 or null freezes)", pattern)
        elif kind is Lora:
            reason = f"lora {pattern!r}: write {{r: 16, lr: 1.0e-4}}, not {value!r}"
            raise EntryError(reason, pattern)
        else:
            read[pattern] = _number(pattern, "lr", value, ["lr"])
    return read


def rule_of(value: Any) -> Rule:
    """Return the rule that a value of `numbers`, or of a test, stands for."""
    return Rule(**value) if isinstance(value, Mapping) else Rule(value or 0.0)


def _number(pattern: str, key: str, value: Any, known: Sequence[str]) -> float:
    def fail(reason: str) -> EntryError:
        return EntryError(f"pattern {pattern!r}: {reason}", pattern, key)

    if key not in known:
        raise fail(f"unknown key {key!r}; {nearest(key, known)}")
    try:
        number = float(value or 0.0)  # YAML reads 1e-4 as text
    except (TypeError, ValueError):
        raise fail(f"{key} is a number, not {value!r}") from None
    low, high = {"r": (1, 4096), "warmup": (0, 1), "dropout": (0, 0.99)}.get(key, (0, float("inf")))
    if not low <= number <= high or math.isinf(number) or (key == "r" and number % 1):
        raise fail(f"{key} is {value}; it is between {low} and {high}")
    return number
