"""How far an evaluation is: a line that changes on a terminal, a new one now and then elsewhere."""

import time
from typing import Any

PRINT_SECONDS = 15.0  # between lines where there is no terminal to draw on


class AnswerProgress:
    """Which row, under which condition, how many answers, how long."""

    def __init__(self, console: Any) -> None:
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.console = console
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TextColumn("{task.completed} answers"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.row, self.answers = "preparing", 0
        self.task = self.bar.add_task(self.row, total=None)
        self.began = self.printed = time.monotonic()

    def __enter__(self) -> "AnswerProgress":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def condition(self, row: str, condition: str) -> None:
        self.row = f"{row} ({condition.replace('_', ' ')})"
        self.bar.update(self.task, description=self.row)

    def answered(self, count: int) -> None:
        self.bar.advance(self.task, count)
        self.answers += count
        now = time.monotonic()
        if self.bar.disable and now - self.printed > PRINT_SECONDS:
            self.printed = now
            self.console.print(
                f"{self.row}: {self.answers} answers in {now - self.began:.0f} s",
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip
