"""One model, one thread that owns it, and a line of what waits for it."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..generation.settings import Generation
from .line import Line
from .metrics import Metrics
from .rows import Rows
from .ticket import DeadError, EngineError, Event, Failed, Ticket

if TYPE_CHECKING:
    from ..generation.continuous import Asked, Continuous
    from ..generation.speech import Speaking
    from ..model.forward import OmniForConditionalGeneration
    from ..processing.processor import Encoded, OmniProcessor

PAUSE = 1.0  # seconds from a worker's end to the next one; doubled while none answers anything
DOUBLINGS = 6


class Engine:
    """Answers tickets in batches, the oldest first.

    Where the LLM keeps keys and values of all positions, a batch is joined by who comes while it is
    answered (see `Continuous`); else it is of tickets that are to be answered alike, and ends
    before the next begins, as one that is spoken does. An answer does not depend on who else is in
    its batch. A ticket that is cancelled or late leaves within one token. What breaks a batch is
    tried again alone, so that it costs only itself. What ends the worker, as a device that fails
    does, costs all that is in flight; after a pause another worker begins with the same model.

    Args:
        model: in evaluation mode; touched by the worker's thread alone from now on.
        processor: the one saved beside it.
        waiting: tickets that may wait.
        token_budget: of a batch, padding and new tokens included; a larger ticket goes alone.
        max_batch: rows of a batch.
    """

    def __init__(
        self, model: "OmniForConditionalGeneration", processor: "OmniProcessor",
        waiting: int = 64, token_budget: int = 16_384, max_batch: int = 16,
    ) -> None:  # fmt: skip
        from ..generation.prefix import shares

        self.model, self.processor = model, processor
        self.token_budget, self.max_batch = token_budget, max_batch
        self.metrics = Metrics()
        self._line = Line(waiting, self.metrics)
        self._joins = shares(model)
        self._alive, self._ends = True, 0  # ends of workers since one answered
        self._start()

    @property
    def alive(self) -> bool:
        """Whether a worker can answer."""
        return self._alive and not self._line.closed

    @property
    def running(self) -> int:
        """How many tickets are being answered."""
        return len(self._line.running)

    @property
    def waiting(self) -> int:
        """How many tickets wait for their turn."""
        return len(self._line.waiting)

    def check_room(self) -> None:
        """Raise what `submit` would, before anything is spent on a request.

        Raises:
            FullError, DeadError: as `submit`.
        """
        self._check_alive()
        self._line.check_room()

    def submit(
        self, prompt: "Encoded", key: str, how: "Generation | Speaking",
        report: Callable[[Event], None], seconds: float, ahead: bool = False,
    ) -> Ticket:  # fmt: skip
        """Put a question in the queue; `report` is called, in another thread, as it is answered.

        Args:
            prompt, key, how, report: see `Ticket`.
            seconds: in which the answer must be whole.
            ahead: it goes on with an answer that had its turn, and is next.

        Raises:
            FullError: too many wait.
            DeadError: the worker has ended.
        """
        if not how.temperature:  # it ignores the rest, so that all of it can go together
            how = replace(how, seed=0)
            how = replace(how, top_p=1.0) if isinstance(how, Generation) else how
        ticket = Ticket(prompt, key, how, report, time.monotonic() + seconds)
        with self._line.changed:
            self._check_alive()
            self._line.add(ticket, ahead)
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Forget a ticket; one that is being answered leaves with its next token."""
        self._line.cancel(ticket)

    def close(self) -> None:
        """End the worker; what is not answered fails."""
        self._line.close()
        self._worker.join()

    def _check_alive(self) -> None:
        if not self.alive:
            raise DeadError("the worker that answers has ended", self._pause)

    @property
    def _pause(self) -> float:
        return PAUSE * 2 ** min(max(self._ends - 1, 0), DOUBLINGS)

    def _start(self) -> None:
        self._worker = threading.Thread(target=self._work, name="engine", daemon=True)
        self._worker.start()

    def _work(self) -> None:
        """Answer until the engine is closed; whatever ends this before, another worker follows."""
        import torch

        try:
            torch.ones(1, device=self.model.device).sum().item()  # a device that failed fails again
            self._alive = True
            while batch := self._line.next(self._take):
                self._answer(batch)
                self._ends = 0
            self._line.fail(DeadError("the server ends", PAUSE))
        except BaseException as error:
            self._outlive(error)
            raise  # which prints it

    def _outlive(self, error: BaseException) -> None:
        with self._line.changed:
            self._alive = False
            self._ends += 1
            reason = f"the worker that answers has ended ({_one_line(error)})"
            self._line.fail(DeadError(reason, self._pause))
        timer = threading.Timer(self._pause, self._start)
        timer.daemon = True
        timer.start()

    def _take(self, waiting: deque[Ticket], with_: Sequence[Ticket] = ()) -> list[Ticket]:
        """Take out the first that may be answered together, and with those that are already."""
        first = [*with_, waiting[0]][0]
        rows = sum(ticket.answers for ticket in with_)
        longest = max((ticket.tokens for ticket in with_), default=0)
        batch: list[Ticket] = []
        for ticket in waiting:
            if not self._alike(ticket, first):
                if with_:
                    break  # nobody overtakes it, so that its turn comes
                continue
            rows, longest = rows + ticket.answers, max(longest, ticket.tokens)
            full = rows > self.max_batch or rows * longest > self.token_budget
            if full and (batch or with_):
                break
            batch.append(ticket)
        for ticket in batch:
            waiting.remove(ticket)
        return batch

    def _alike(self, one: Ticket, other: Ticket) -> bool:
        written = isinstance(one.how, Generation) and isinstance(other.how, Generation)
        return one.how == other.how or (self._joins and written)

    def _answer(self, batch: list[Ticket], alone: bool = False) -> None:
        """Answer a batch, and who joins it; where it breaks, each ticket alone.

        Raises:
            AcceleratorError: of torch: nothing will work any more in this thread's device.
        """
        import torch

        problem = None
        try:
            if not isinstance(batch[0].how, Generation):
                self._speak(batch)
            elif self._joins and not alone:
                self._go_on(batch)
            else:
                self._write(batch)
        except torch.AcceleratorError:
            raise
        except Exception as error:
            problem = error.with_traceback(None)  # which holds tensors
        if not problem:
            return
        left = batch if alone else self._line.running
        for ticket in left:
            if ticket.open and not ticket.gone:
                heard = ticket.started and not isinstance(ticket.how, Generation)
                if heard or len(left) == 1:  # sound is not begun anew
                    self._fail(ticket, problem)
                else:
                    self._answer([ticket], alone=True)

    def _fail(self, ticket: Ticket, problem: Exception) -> None:
        self._line.leave(ticket, Failed(EngineError(f"the model failed: {_one_line(problem)}")))

    def _go_on(self, joining: list[Ticket]) -> None:
        """Write a batch whose tickets join and leave at any token, until there are none."""
        from ..generation.continuous import Continuous

        together = Continuous(self.model, self.processor)
        while joining or together.answers:
            self._join(together, joining)
            if together.answers:
                together.step()
                self._ends = 0
            joining = self._line.more(self._take) if together.answers else []

    def _join(self, together: "Continuous", joining: list[Ticket]) -> None:
        """Let tickets join; where that breaks, each by itself, which costs only who breaks it."""
        import torch

        if not joining:
            return
        try:
            together.join([self._asked(ticket) for ticket in joining])
        except torch.AcceleratorError:
            raise
        except Exception as error:
            if len(joining) == 1:
                self._fail(joining[0], error.with_traceback(None))
                return
            for one in joining:
                self._join(together, [one])

    def _asked(self, ticket: Ticket) -> "Asked":
        from ..generation.continuous import Asked

        assert isinstance(ticket.how, Generation)
        return Asked(ticket.prompt, ticket.key, ticket.how, Rows(self._line, [ticket]))

    def _write(self, batch: list[Ticket]) -> None:
        from ..generation.answer import complete

        prompts, how = [ticket.prompt for ticket in batch], batch[0].how
        assert isinstance(how, Generation)
        complete(
            self.model, self.processor, self.processor.pad(prompts), how,
            keys=[ticket.key for ticket in batch], watcher=Rows(self._line, batch),
        )  # fmt: skip

    def _speak(self, batch: list[Ticket]) -> None:
        from .speech.batch import speak

        speak(self.model, self.processor, batch, Rows(self._line, batch))


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
