"""Tickets that wait for their turn, and those that are being answered."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from .metrics import Metrics
from .ticket import EngineError, Event, Failed, FullError, LateError, Ticket

Take = Callable[[deque[Ticket], Sequence[Ticket]], list[Ticket]]


class Line:
    """A bounded queue, and what has left it but is not answered yet; for any thread.

    Args:
        most: tickets that may wait.
        metrics: count them.
    """

    def __init__(self, most: int, metrics: Metrics) -> None:
        self.most, self.metrics = most, metrics
        self.waiting: deque[Ticket] = deque()
        self.running: list[Ticket] = []
        self.changed = threading.Condition()
        self.closed = False
        self.seconds = 1.0  # that the last ticket's turn took

    def check_room(self) -> None:
        """Raise what `add` would.

        Raises:
            FullError: too many wait.
        """
        if len(self.waiting) >= self.most:
            raise FullError(len(self.waiting), max(1, math.ceil(self.seconds)))

    def add(self, ticket: Ticket, ahead: bool = False) -> None:
        """Let a ticket wait; `ahead` of all others, and whoever waits, if it had its turn before.

        Raises:
            FullError: too many wait.
        """
        with self.changed:
            if ahead:
                self.waiting.appendleft(ticket)
            else:
                self.check_room()
                self.waiting.append(ticket)
            self._count()
            self.changed.notify()

    def cancel(self, ticket: Ticket) -> None:
        """Forget a ticket; one that is being answered leaves with its next token."""
        with self.changed:
            ticket.gone = True
            if ticket in self.waiting:
                self.waiting.remove(ticket)
                self._count()

    def next(self, take: Take) -> list[Ticket]:
        """Wait for tickets and let `take` choose those to answer; none once the line is closed."""
        with self.changed:
            self._run([])
            while not self.closed:
                self.drop_late()
                if self.waiting:
                    return self._run(take(self.waiting, ()))
                self.changed.wait()
            return []

    def more(self, take: Take) -> list[Ticket]:
        """Let `take` choose those that wait who join the ones being answered; none may do so."""
        with self.changed:
            self.drop_late()
            if self.closed or not (self.waiting and self.running):
                return []
            taken = take(self.waiting, self.running)
            self._run([*self.running, *taken])
            return taken

    def drop_late(self) -> None:
        """Let those leave that would not be answered in time."""
        with self.changed:
            for ticket in [ticket for ticket in self.waiting if ticket.late]:
                self.waiting.remove(ticket)
                self._count()
                reason = "the deadline passed while the request was waiting"
                ticket.report(Failed(LateError(reason)))

    def leave(self, ticket: Ticket, last: Event) -> None:
        """Report what is the last of a ticket that is being answered."""
        with self.changed:
            self._run([other for other in self.running if other is not ticket])
            self.seconds = time.monotonic() - ticket.turn
        ticket.report(last)

    def fail(self, error: EngineError) -> None:
        """Let all leave without an answer."""
        with self.changed:
            left = [*self.running, *self.waiting]
            self.waiting.clear()
            self._run([])
        for ticket in left:
            ticket.report(Failed(error))

    def close(self) -> None:
        """Let no more have their turn; who is being answered leaves with the next token."""
        with self.changed:
            self.closed = True
            for ticket in self.running:
                ticket.gone = True
            self.changed.notify_all()

    def _run(self, tickets: list[Ticket]) -> list[Ticket]:
        for ticket in tickets:
            ticket.turn = ticket.turn or time.monotonic()
        self.running = tickets
        self._count()
        return tickets

    def _count(self) -> None:
        self.metrics.waiting.set(len(self.waiting))
        self.metrics.running.set(len(self.running))
