"""What waits for an answer, and what is reported of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ..generation.settings import Completion, Generation

if TYPE_CHECKING:
    from ..processing.processor import Encoded


class EngineError(RuntimeError):
    """Why a question has no answer, though it was a good one."""


class FullError(EngineError):
    """As many wait as may; try again in `after` seconds."""

    def __init__(self, waiting: int, after: int) -> None:
        super().__init__(f"{waiting} requests are waiting already; try again in {after} s")
        self.after = after


class DeadError(EngineError):
    """The worker that owns the model has ended."""


class LateError(EngineError):
    """The deadline passed before the answer was whole."""


class GoneError(EngineError):
    """Nobody waits for the answer any more."""


class Wrote(NamedTuple):
    """What is sure of an answer's text so far, from its beginning on."""

    choice: int
    text: str


class Ended(NamedTuple):
    """One of the n answers is whole."""

    choice: int
    completion: Completion


class Failed(NamedTuple):
    """There is no answer, and nothing more will be reported."""

    error: Exception


Event = Wrote | Ended | Failed


@dataclass(eq=False)
class Ticket:
    """A question on its way through the engine.

    Args:
        prompt: encoded up to the header of the answer.
        key: what tells prompts apart where tokens are drawn, see `complete`.
        generation: how it is answered.
        report: takes events, called in the worker's thread.
        deadline: of `time.monotonic`.
    """

    prompt: "Encoded"
    key: str
    generation: Generation
    report: Callable[[Event], None]
    deadline: float
    came: float = field(default_factory=time.monotonic)
    gone: bool = False  # nobody waits for it any more
    open: set[int] = field(init=False)  # answers that are not whole yet
    started: bool = False  # its first token is there

    def __post_init__(self) -> None:
        self.open = set(range(self.generation.n))

    @property
    def late(self) -> bool:
        return time.monotonic() > self.deadline

    @property
    def cost(self) -> int:
        """Tokens of one row at most, the new ones included."""
        return len(self.prompt) + self.generation.max_new_tokens
