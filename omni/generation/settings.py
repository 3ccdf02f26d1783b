"""How answers are generated, in one description, and what one of them is."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .budget import Budget

if TYPE_CHECKING:
    from torch import Tensor

SEEDS = 1 << 63  # what fits a signed 64-bit integer, as endpoints take it


@dataclass(frozen=True)
class Generation:
    """How prompts are continued; the answers of a model differ only where this or they differ.

    Args:
        max_new_tokens: most tokens of an answer; with `thinking`, of what follows it.
        stop: strings that end an answer; its text is cut before them.
        temperature: divides the scores of the tokens before one is drawn; 0 draws none, and
            takes the most likely token at every step (greedy).
        top_p: draw only from the fewest tokens that together are this likely; greedy ignores it.
        n: answers to each prompt.
        seed: other ones draw other tokens; greedy ignores it.
        thinking: how much of it goes before the answer; a mapping becomes a `Budget`. None: as much
            as the model likes, within `max_new_tokens`.

    Raises:
        ValueError: a value out of its range; names the field, what it must be and what it is.
    """

    max_new_tokens: int = 64
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    n: int = 1
    seed: int = 0
    thinking: Budget | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name, least in (("max_new_tokens", 1), ("n", 1), ("seed", 0)):
            value = getattr(self, name)
            whole = type(value) is int and value >= least
            _need(whole, name, f"a whole number from {least}", value)
        _need(self.seed < SEEDS, "seed", "below 2**63", self.seed)
        _need(_number(self.temperature) and self.temperature >= 0,
              "temperature", "a number from 0", self.temperature)  # fmt: skip
        _need(_number(self.top_p) and 0 < self.top_p <= 1,
              "top_p", "a number above 0, at most 1", self.top_p)  # fmt: skip
        strings = isinstance(self.stop, tuple | list) and all(
            isinstance(string, str) and string for string in self.stop
        )
        _need(strings, "stop", "a tuple or list of strings, none of them empty", self.stop)
        # equal descriptions have equal keys: 1 and 1.0, a list and a tuple
        object.__setattr__(self, "stop", tuple(self.stop))
        object.__setattr__(self, "temperature", float(self.temperature))
        object.__setattr__(self, "top_p", float(self.top_p))
        if self.thinking is not None:
            object.__setattr__(self, "thinking", Budget.of(self.thinking))

    @property
    def longest(self) -> int:
        """Most tokens of an answer and of the thinking before it, where that has a budget."""
        return self.max_new_tokens + (Budget.of(self.thinking).max if self.thinking else 0)

    @property
    def key(self) -> str:
        """All fields that are set as json, the same in every process."""
        found = asdict(self)
        if self.thinking is None:  # answers that were kept before there was one are still found
            del found["thinking"]
        return json.dumps(found, sort_keys=True)


class Completion(NamedTuple):
    """One answer.

    `ids` (T,) int64 are its tokens as they were generated, with what ended it: an end marker, or
    a stop string. `text` is without either, and without the space around it. `logprobs` (T,)
    float32 are the log-probabilities of `ids` in the distributions that they were drawn from,
    after `temperature` and `top_p`; of greedy ones, under the plain softmax of the scores.
    `finish` is "stop" at an end marker or a stop string, "length" at `max_new_tokens`. `thinking`
    are its tokens of thinking where that had a budget, else 0; what the budget put there is among
    `ids`, with log-probability 0. `kept` are, where they were asked for and `top_p` left some out,
    the tokens that each of `ids` was drawn from: (T,) of (K,) int32.
    """

    text: str
    ids: "Tensor"
    logprobs: "Tensor"
    finish: Literal["stop", "length"]
    thinking: int = 0
    kept: "tuple[Tensor, ...]" = ()


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _need(right: bool, name: str, what: str, value: Any) -> None:
    if not right:
        raise ValueError(f"{name} must be {what}, not {value!r}")
