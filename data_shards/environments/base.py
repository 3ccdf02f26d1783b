"""What a world is: a state from a seed, a prompt, a verifier and a solver; checked where called."""

import json
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol

import numpy as np

from omni.processing.messages import Message, MessageError, assistant, user, validate

from ..sources.base import SourceUnavailable, digest

State = dict[str, Any]
SECONDS = 60.0
"""most that one call of an environment may take"""


@dataclass(frozen=True)
class Verdict:
    """What an answer is worth.

    `done`: no further attempt makes sense. `message` is the user's turn before a further one.
    """

    reward: float
    success: bool
    done: bool
    message: str


class Environment(Protocol):
    """A world. `state` depends on the seed alone, and whatever else on the state alone.

    It may also have `attempts`, the most answers to one prompt (1 if not given); `exhausted`, what
    one more of them is paid (-1); and, where answers are steps, `advance(state, answer)`, the state
    after an answer. What `advance` returns unchanged is at its end, or failed.
    """

    name: str

    def state(self, seed: int) -> State:
        """Return a state that json can hold."""
        ...

    def prompt(self, state: State) -> tuple[list[Message], dict[str, bytes]]:
        """Return messages as in the json of a sample, and the files that they name."""
        ...

    def verify(self, state: State, answer: str) -> Verdict:
        """Judge any string at all."""
        ...

    def solution(self, state: State) -> str:
        """Return an answer that `verify` finds right."""
        ...


class EnvironmentFault(RuntimeError):  # noqa: N818 - reads as what it is
    """An environment broke its contract; the text names it, the seed, the call and the fault."""


class Checked:
    """An environment whose every call is checked: what it raises, pays, returns, and how long.

    Args:
        world: the environment itself.
        kind: as a recipe names it; what is said of a fault begins with it.
        seconds: most that a call may take.

    Raises:
        EnvironmentFault: of every call: see above.
        SourceUnavailable: of `prompt`: what it is rendered with cannot be had here.
    """

    def __init__(self, world: Environment, kind: str = "", seconds: float = SECONDS):
        self.world, self.seconds = world, seconds
        self.kind = kind or world.name
        self.name: str = world.name
        self.attempts: int = getattr(world, "attempts", 1)
        self.exhausted: float = getattr(world, "exhausted", -1.0)

    def state(self, seed: int) -> State:
        found = self._call("state", seed, lambda: self.world.state(seed))
        try:
            return dict(json.loads(json.dumps(found, allow_nan=False)), seed=seed)
        except (TypeError, ValueError) as error:
            raise self._fault("state", seed, f"returned what json cannot hold: {error}") from error

    def prompt(self, state: State) -> tuple[list[Message], dict[str, bytes]]:
        found = self._call("prompt", state, lambda: self.world.prompt(state))
        try:
            messages, media = found
            validate(messages, media)
        except (TypeError, ValueError) as error:
            why = error if isinstance(error, MessageError) else "not (messages, media by file name)"
            raise self._fault("prompt", state, f"returned no prompt: {why}") from error
        return messages, media

    def verify(self, state: State, answer: str) -> Verdict:
        found = self._call("verify", state, lambda: self.world.verify(state, answer))
        if not isinstance(found, Verdict):
            raise self._fault("verify", state, f"returned {type(found).__name__}, not a Verdict")
        paid = found.reward
        if isinstance(paid, bool) or not isinstance(paid, Real) or not math.isfinite(paid):
            raise self._fault("verify", state, f"paid {paid!r}, not a finite number")
        if not isinstance(found.message, str) or not found.message:
            raise self._fault("verify", state, f"says {found.message!r}, not words")
        return found

    def solution(self, state: State) -> str:
        found = self._call("solution", state, lambda: self.world.solution(state))
        if not isinstance(found, str):
            raise self._fault("solution", state, f"returned {type(found).__name__}, not a string")
        return found

    def advance(self, state: State, answer: str) -> State:
        step = getattr(self.world, "advance", None)
        if step is None:
            return state
        found = self._call("advance", state, lambda: step(state, answer))
        if not isinstance(found, dict):
            raise self._fault("advance", state, f"returned {type(found).__name__}, not a state")
        return found

    def _call(self, name: str, of: State | int, call: Callable[[], Any]) -> Any:
        """Call in a thread of its own, which is given up where it does not return."""
        found: list[Any] = []
        raised: list[BaseException] = []

        def run() -> None:
            try:
                found.append(call())
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=run, name=f"{self.kind}.{name}", daemon=True)
        thread.start()
        thread.join(self.seconds)
        if raised and isinstance(raised[0], SourceUnavailable):
            raise raised[0]
        if raised:
            why = f"raised {type(raised[0]).__name__}: {raised[0]}"
            raise self._fault(name, of, why) from raised[0]
        if not found:
            raise self._fault(name, of, f"did not return within {self.seconds:g} seconds")
        return found[0]

    def _fault(self, name: str, of: State | int, what: str) -> EnvironmentFault:
        seed = of if isinstance(of, int) else of.get("seed", "unknown")
        return EnvironmentFault(f"environment {self.kind}, seed {seed}: {name} {what}")


def revised(messages: list[Message], answer: str, verdict: Verdict) -> list[Message]:
    """Return the conversation in which an answer failed and another is to come."""
    return [*messages, assistant(answer), user(verdict.message)]


def draws(name: str, seed: int) -> np.random.Generator:
    """Return a generator that depends on the world's name and the seed only."""
    return np.random.Generator(np.random.Philox(key=[digest(name, seed), 0]))


def in_split(identity: str, split: str, share: float) -> bool:
    """Whether an identity is in "train", or in "heldout": `share` of all; "all" has every one.

    Whatever the seed of a build, so that a suite knows without the shards what training never saw.
    """
    if split == "all":
        return True
    return (digest("heldout", identity) < share * 2**64) == (split == "heldout")
