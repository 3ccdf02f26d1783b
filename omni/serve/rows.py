"""The rows of a batch, and the tickets that hear of them."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..generation.settings import Completion
from .line import Line
from .ticket import Ended, Failed, GoneError, LateError, Spoke, Ticket, Wrote

if TYPE_CHECKING:
    from torch import Tensor


class Rows:
    """Reports the rows of a batch to the tickets that they belong to; a watcher of `complete`.

    Args:
        line: that the tickets leave when all of theirs is whole.
        batch: tickets, each of which has as many rows in a row as answers.
    """

    def __init__(self, line: Line, batch: Sequence[Ticket]) -> None:
        self.line = line
        self.of = [(ticket, n) for ticket in batch for n in range(ticket.answers)]

    def wrote(self, row: int, text: str) -> bool:
        ticket, choice = self.of[row]
        if not self.leaves(ticket):
            self._first(ticket)
            ticket.report(Wrote(choice, text))
        return ticket.gone

    def ended(self, row: int, completion: Any) -> None:
        ticket, choice = self.of[row]
        if choice not in ticket.open or ticket.gone:
            return  # reported before the batch broke, or wanted by nobody
        self._first(ticket)
        ticket.open.remove(choice)
        metrics = self.line.metrics
        written = isinstance(completion, Completion)
        metrics.generated.inc(len(completion.ids if written else completion.codes))
        if ticket.open:
            ticket.report(Ended(choice, completion))
            return
        metrics.prompts.inc(len(ticket.prompt))
        metrics.whole.observe(time.monotonic() - ticket.came)
        self.line.leave(ticket, Ended(choice, completion))

    def spoke(self, row: int, wave: "Tensor") -> None:
        """Report the next piece of sound, (samples,)."""
        ticket, choice = self.of[row]
        if len(wave):
            self._first(ticket)
            ticket.report(Spoke(choice, wave))

    def leaves(self, ticket: Ticket) -> bool:
        """Let a ticket leave that is late or cancelled; whether it has left."""
        self.line.drop_late()
        if ticket.late and not ticket.gone:
            ticket.gone = True
            self.line.leave(ticket, Failed(LateError("the deadline passed in mid-answer")))
        elif ticket.gone and ticket in self.line.running:
            self.line.leave(ticket, Failed(GoneError("cancelled")))
        return ticket.gone

    def _first(self, ticket: Ticket) -> None:
        if not ticket.started:
            ticket.started = True
            self.line.metrics.first.observe(time.monotonic() - ticket.came)
