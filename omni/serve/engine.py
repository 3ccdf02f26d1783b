"""One model, one thread that owns it, and a line of what waits for it."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..generation.settings import Generation
from .line import Line
from .metrics import Metrics
from .rows import Rows
from .ticket import DeadError, EngineError, Event, Failed, Ticket

if TYPE_CHECKING:
    from ..generation.speech import Speaking
    from ..model.forward import OmniForConditionalGeneration
    from ..processing.processor import Encoded, OmniProcessor

PAUSE = 1.0  # seconds from a worker's end to the next one; doubled while none answers anything
DOUBLINGS = 6


class Engine:
    """Answers tickets in batches of those that are to be answered alike, the oldest first.

    An answer does not depend on who else is in its batch. A ticket that is cancelled or late
    leaves within one token; its row does no more work that anybody waits for, and a batch whose
    rows have all left ends. What breaks a batch is tried again alone, so that it costs only itself.
    What ends the worker, as a device that fails does, costs all that is in flight; after a pause
    another worker begins with the same model.

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
        self._sharing = shares(model)
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
                began = time.monotonic()
                self._answer(batch)
                self._line.seconds, self._ends = time.monotonic() - began, 0
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

    def _take(self, waiting: deque[Ticket]) -> list[Ticket]:
        first = waiting[0]
        batch, rows, longest = [], 0, 0
        for ticket in waiting:
            if ticket.how != first.how:
                continue
            rows, longest = rows + ticket.answers, max(longest, len(ticket.prompt))
            if batch and (
                rows > self.max_batch or rows * (longest + first.most) > self.token_budget
            ):
                break
            batch.append(ticket)
        for ticket in batch:
            waiting.remove(ticket)
        return batch

    def _answer(self, batch: list[Ticket]) -> None:
        """Answer a batch; where it breaks, each ticket alone.

        Raises:
            AcceleratorError: of torch: nothing will work any more in this thread's device.
        """
        import torch

        problem = None
        try:
            rows = Rows(self._line, batch)
            (self._write if isinstance(batch[0].how, Generation) else self._speak)(batch, rows)
        except torch.AcceleratorError:
            raise
        except Exception as error:
            problem = error.with_traceback(None)  # which holds tensors
        if not problem:
            return
        for ticket in batch:
            if ticket.open and not ticket.gone:
                heard = ticket.started and not isinstance(ticket.how, Generation)
                if heard or len(batch) == 1:  # sound is not begun anew
                    error = EngineError(f"the model failed: {_one_line(problem)}")
                    self._line.leave(ticket, Failed(error))
                else:
                    self._answer([ticket])

    def _write(self, batch: list[Ticket], rows: Rows) -> None:
        from ..generation.answer import complete
        from ..generation.prefix import share

        prompts, how = [ticket.prompt for ticket in batch], batch[0].how
        assert isinstance(how, Generation)
        shared = share(self.processor, prompts) if self._sharing else None
        complete(
            self.model, self.processor, shared or self.processor.pad(prompts), how,
            keys=[ticket.key for ticket in batch], watcher=rows,
        )  # fmt: skip

    def _speak(self, batch: list[Ticket], rows: Rows) -> None:
        from .speech.batch import speak

        speak(self.model, self.processor, batch, rows)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
