"""A reward function of the user's own, called as those of TRL are."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from numbers import Real
from typing import Any

from omni.entry import EntryError
from omni.processing.messages import Message

from .episode import Episode

SHAPE = "it returns a list of one number for each"


class RewardFault(ValueError):  # noqa: N818 - reads as what it is
    """A reward function that raised, or did not return a number for each answer."""


def reward_function(path: str) -> Callable[..., Any]:
    """Return the function that "module:function" names.

    Raises:
        EntryError: there is none.
    """
    module, _, name = path.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise EntryError(f"reward {path!r} cannot be imported: {error}", "reward") from error
    if not callable(found):
        raise EntryError(f"reward {path!r} is {type(found).__name__}, not a function", "reward")
    return found


def pay(
    function: Callable[..., Any],
    name: str,
    prompt: list[Message],
    episodes: Sequence[Episode],
    state: dict[str, Any],
) -> list[float]:
    """Return what a function pays for the last answers of some episodes of one prompt.

    It is called with `prompts`, `completions` (each a list of one assistant message),
    `completion_ids`, and every column of the environment's state, a list for each.

    Raises:
        RewardFault: names the function, and what it returned.
    """
    last = [episode.attempts[-1] for episode in episodes]
    columns = {key: [value] * len(last) for key, value in state.items()}
    try:
        found = function(
            prompts=[prompt] * len(last),
            completions=[[{"role": "assistant", "content": one.text}] for one in last],
            completion_ids=[one.ids for one in last], **columns,
        )  # fmt: skip
        paid = found.tolist() if hasattr(found, "tolist") else found
        if isinstance(paid, Iterable) and not isinstance(paid, str | bytes | Mapping):
            paid = [*paid]
    except Exception as error:
        raise RewardFault(f"reward {name} raised {type(error).__name__}: {error}") from error
    if not isinstance(paid, list):
        raise RewardFault(f"reward {name} returned {paid!r} for {len(last)} answers: {SHAPE}")
    if len(paid) != len(last):
        raise RewardFault(
            f"reward {name} returned {len(paid)} rewards for {len(last)} answers: {SHAPE}"
        )
    for value in paid:
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise RewardFault(
                f"reward {name} returned {value!r}, not a finite number, for an answer: {SHAPE}"
            )
    return [float(value) for value in paid]
