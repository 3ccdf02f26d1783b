"""A progress bar on a terminal, a line now and then elsewhere."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PRINT_SECONDS = 15.0  # between lines where there is no terminal to draw a bar on


class Bar:
    """How far a stage is; silent where `main` is false."""

    def __init__(self, name: str, steps: int, done: int, main: bool):
        self.name, self.steps, self.main = name, steps, main
        self._printed = time.monotonic()
        self._bar = Progress(
            TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[line]}"), TimeRemainingColumn(),
            disable=not (main and sys.stdout.isatty()), console=Console(),
        )  # fmt: skip
        self._task = self._bar.add_task(name, total=steps, completed=done, line="")
        self.start, self.stop = self._bar.start, self._bar.stop

    def show(self, step: int, line: str, seconds: float) -> None:
        """Draw a step; `seconds` is what all steps so far took."""
        self._bar.update(self._task, completed=step, line=line)
        now = time.monotonic()
        due = now - self._printed > PRINT_SECONDS or step == self.steps
        if self.main and self._bar.disable and due:
            self._printed = now
            left = (self.steps - step) * seconds / max(1, step)
            print(f"{self.name} {step}/{self.steps}  {line}  {left:.0f} s left", flush=True)
