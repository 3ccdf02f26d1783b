"""One model, one thread that owns it, and a bounded queue of what waits for it."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ..generation.settings import Completion, Generation
from .metrics import Metrics
from .ticket import (
    DeadError,
    Ended,
    EngineError,
    Event,
    Failed,
    FullError,
    GoneError,
    LateError,
    Ticket,
    Wrote,
)

if TYPE_CHECKING:
    from ..model.forward import OmniForConditionalGeneration
    from ..processing.processor import Encoded, OmniProcessor

T = TypeVar("T")


class Engine:
    """Answers tickets in batches of those that are to be answered alike, the oldest first.

    An answer does not depend on who else is in its batch. A ticket that is cancelled or late
    leaves within one token; its row does no more work that anybody waits for, and a batch whose
    rows have all left ends. What breaks a batch is tried again alone, so that it costs only itself.

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
        self.most_waiting, self.token_budget, self.max_batch = waiting, token_budget, max_batch
        self.metrics = Metrics()
        self._sharing = shares(model)
        self._waiting: deque[Ticket] = deque()
        self._lent: deque[tuple[Future, Callable[[], object]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._seconds = 1.0  # that the last batch took
        self._running: list[Ticket] = []
        self._worker = threading.Thread(target=self._work, name="engine", daemon=True)
        self._worker.start()

    @property
    def alive(self) -> bool:
        """Whether the worker can still answer."""
        return self._worker.is_alive() and not self._closed

    @property
    def running(self) -> int:
        """How many tickets are being answered."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many tickets wait for their turn."""
        return len(self._waiting) + len(self._lent)

    def check_room(self) -> None:
        """Raise what `submit` would, before anything is spent on a request.

        Raises:
            FullError, DeadError: as `submit`.
        """
        if not self.alive:
            raise DeadError("the worker that answers has ended; restart the server")
        if self.waiting >= self.most_waiting:
            raise FullError(self.waiting, max(1, math.ceil(self._seconds)))

    def submit(
        self, prompt: "Encoded", key: str, generation: Generation,
        report: Callable[[Event], None], seconds: float,
    ) -> Ticket:  # fmt: skip
        """Put a question in the queue; `report` is called, in another thread, as it is answered.

        Args:
            prompt, key, generation, report: see `Ticket`.
            seconds: in which the answer must be whole.

        Raises:
            FullError: too many wait.
            DeadError: the worker has ended.
        """
        if not generation.temperature:  # greedy ignores both, so that all of it can go together
            generation = replace(generation, seed=0, top_p=1.0)
        ticket = Ticket(prompt, key, generation, report, time.monotonic() + seconds)
        with self._changed:
            self.check_room()
            self._waiting.append(ticket)
            self._count()
            self._changed.notify()
        return ticket

    def lend(self, work: Callable[[], T]) -> "Future[T]":
        """Do something else with the model, in the thread that owns it, before the next batch.

        Returns:
            What `work` will have returned or raised; DeadError once the worker has ended.

        Raises:
            FullError, DeadError: as `submit`.
        """
        done: Future[T] = Future()
        with self._changed:
            self.check_room()
            self._lent.append((done, work))
            self._count()
            self._changed.notify()
        return done

    def cancel(self, ticket: Ticket) -> None:
        """Forget a ticket; one that is being answered leaves with its next token."""
        with self._changed:
            ticket.gone = True
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                self._count()

    def close(self) -> None:
        """End the worker; what is not answered fails."""
        with self._changed:
            self._closed = True
            for ticket in self._running:
                ticket.gone = True
            self._changed.notify()
        self._worker.join()

    def _work(self) -> None:
        try:
            while work := self._next():
                began = time.monotonic()
                work()
                self._seconds = time.monotonic() - began
        finally:
            with self._changed:
                self._closed = True
                left, lent = [*self._running, *self._waiting], [*self._lent]
                self._running, self._waiting, self._lent = [], deque(), deque()
                self._count()
            for done, _ in lent:
                if done.set_running_or_notify_cancel():
                    done.set_exception(DeadError("the worker that answers has ended"))
            for ticket in left:
                ticket.report(Failed(DeadError("the worker that answers has ended")))

    def _next(self) -> Callable[[], None] | None:
        """Wait for something to do: what the model is lent for, a batch; none once it is closed."""
        with self._changed:
            while not self._closed:
                self._drop_late()
                self._running = []
                if self._lent:
                    return partial(_lend, *self._lent.popleft())
                if self._waiting:
                    self._running = self._take()
                    self._count()
                    return partial(self._answer, self._running)
                self._count()
                self._changed.wait()
            return None

    def _take(self) -> list[Ticket]:
        first = self._waiting[0]
        batch, rows, longest, most = [], 0, 0, first.generation.max_new_tokens
        for ticket in self._waiting:
            if ticket.generation != first.generation:
                continue
            rows, longest = rows + ticket.generation.n, max(longest, len(ticket.prompt))
            if batch and (rows > self.max_batch or rows * (longest + most) > self.token_budget):
                break
            batch.append(ticket)
        self._waiting = deque(ticket for ticket in self._waiting if ticket not in batch)
        return batch

    def _drop_late(self) -> None:
        late = [ticket for ticket in self._waiting if ticket.late]
        for ticket in late:
            self._waiting.remove(ticket)
            ticket.report(Failed(LateError("the deadline passed while the request was waiting")))

    def _answer(self, batch: list[Ticket]) -> None:
        """Answer a batch; where it breaks, each ticket alone."""
        from ..generation.answer import complete
        from ..generation.prefix import share

        problem = None
        try:
            prompts = [ticket.prompt for ticket in batch]
            shared = share(self.processor, prompts) if self._sharing else None
            complete(
                self.model, self.processor, shared or self.processor.pad(prompts),
                batch[0].generation, keys=[ticket.key for ticket in batch],
                watcher=_Rows(self, batch),
            )  # fmt: skip
        except Exception as error:
            problem = error.with_traceback(None)  # which holds tensors
        if problem and len(batch) == 1:
            self._fail(batch[0], problem)
        elif problem:
            for ticket in batch:
                if ticket.open and not ticket.gone:
                    self._answer([ticket])

    def _fail(self, ticket: Ticket, problem: Exception) -> None:
        reason = " ".join(str(problem).split())
        if ticket.open:
            error = EngineError(f"the model failed: {type(problem).__name__}: {reason}")
            self._leave(ticket, Failed(error))

    def _leave(self, ticket: Ticket, last: Event) -> None:
        """Report what is the last of a ticket."""
        with self._changed:
            self._running = [other for other in self._running if other is not ticket]
            self._count()
        ticket.report(last)

    def _count(self) -> None:
        self.metrics.waiting.set(self.waiting)
        self.metrics.running.set(len(self._running))


def _lend(done: Future[T], work: Callable[[], T]) -> None:
    if not done.set_running_or_notify_cancel():
        return
    try:
        done.set_result(work())
    except Exception as error:
        done.set_exception(error.with_traceback(None))  # which holds tensors


class _Rows:
    """Reports the rows of a batch to the tickets that they belong to."""

    def __init__(self, engine: Engine, batch: list[Ticket]) -> None:
        self.engine = engine
        self.of = [(ticket, n) for ticket in batch for n in range(ticket.generation.n)]

    def wrote(self, row: int, text: str) -> bool:
        ticket, choice = self.of[row]
        with self.engine._changed:
            self.engine._drop_late()
        if ticket.late and not ticket.gone:
            ticket.gone = True
            self.engine._leave(ticket, Failed(LateError("the deadline passed in mid-answer")))
        elif ticket.gone and ticket in self.engine._running:
            self.engine._leave(ticket, Failed(GoneError("cancelled")))
        if not ticket.gone:
            self._first(ticket)
            ticket.report(Wrote(choice, text))
        return ticket.gone

    def ended(self, row: int, completion: Completion) -> None:
        ticket, choice = self.of[row]
        if choice not in ticket.open or ticket.gone:
            return  # reported before the batch broke, or wanted by nobody
        self._first(ticket)
        ticket.open.remove(choice)
        metrics = self.engine.metrics
        metrics.generated.inc(len(completion.ids))
        if ticket.open:
            ticket.report(Ended(choice, completion))
            return
        metrics.prompts.inc(len(ticket.prompt))
        metrics.whole.observe(time.monotonic() - ticket.came)
        self.engine._leave(ticket, Ended(choice, completion))

    def _first(self, ticket: Ticket) -> None:
        if not ticket.started:
            ticket.started = True
            self.engine.metrics.first.observe(time.monotonic() - ticket.came)
