"""What waits for an answer, and what is reported of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ..generation.settings import Generation

if TYPE_CHECKING:
    from torch import Tensor

    from ..generation.speech import Speaking
    from ..processing.processor import Encoded


class EngineError(RuntimeError):
    """Why a question has no answer, though it was a good one."""


class FullError(EngineError):
    """As many wait as may; try again in `after` seconds."""

    def __init__(self, waiting: int, after: int) -> None:
        super().__init__(f"{waiting} requests are waiting already; try again in {after} s")
        self.after = after


class DeadError(EngineError):
    """The worker that owns the model has ended; another one begins in `after` seconds."""

    def __init__(self, reason: str, seconds: float) -> None:
        self.after = max(1, round(seconds))
        super().__init__(f"{reason}; try again in {self.after} s")


class LateError(EngineError):
    """The deadline passed before the answer was whole."""


class GoneError(EngineError):
    """Nobody waits for the answer any more."""


class Wrote(NamedTuple):
    """What is sure of an answer's text so far, from its beginning on."""

    choice: int
    text: str


class Spoke(NamedTuple):
    """The next piece of sound of an answer that is spoken, (samples,) at 16 kHz."""

    choice: int
    wave: "Tensor"


class Ended(NamedTuple):
    """One of the n answers is whole: a `Completion`, or an `Utterance` of one that is spoken."""

    choice: int
    completion: Any


class Failed(NamedTuple):
    """There is no answer, and nothing more will be reported."""

    error: Exception


Event = Wrote | Spoke | Ended | Failed


@dataclass(eq=False)
class Ticket:
    """A question on its way through the engine.

    Args:
        prompt: encoded up to the header of the answer, or the text of it that is to be said.
        key: what tells prompts apart where tokens are drawn, see `complete`.
        how: it is answered, or said.
        report: takes events, called in the worker's thread.
        deadline: of `time.monotonic`.
    """

    prompt: "Encoded"
    key: str
    how: "Generation | Speaking"
    report: Callable[[Event], None]
    deadline: float
    came: float = field(default_factory=time.monotonic)
    turn: float = 0.0  # when it was taken out of the queue
    gone: bool = False  # nobody waits for it any more
    open: set[int] = field(init=False)  # answers that are not whole yet
    started: bool = False  # its first token is there

    def __post_init__(self) -> None:
        self.open = set(range(self.answers))

    @property
    def late(self) -> bool:
        return time.monotonic() > self.deadline

    @property
    def answers(self) -> int:
        """How many answers are wanted."""
        return self.how.n if isinstance(self.how, Generation) else 1

    @property
    def tokens(self) -> int:
        """Most tokens of the prompt and an answer, or of frames of one that is spoken."""
        how = self.how
        most = how.longest if isinstance(how, Generation) else how.max_frames or 0
        return len(self.prompt) + most
