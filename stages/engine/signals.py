"""Let an interrupted process finish its step and save before it stops."""

import signal
from typing import Any


class Interrupted(SystemExit):
    """SIGINT or SIGTERM arrived; a checkpoint was written. The exit code is 128 + signal."""


class Signals:
    """Remember SIGINT and SIGTERM until the step is done; a second one acts at once."""

    def __enter__(self) -> "Signals":
        self.arrived = 0
        self._old = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._old[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: somebody else handles signals
                break
        return self

    def _note(self, number: int, _frame: Any) -> None:
        self.arrived = number
        signal.signal(number, self._old[number])

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
