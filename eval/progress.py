"""A line that says how far an evaluation is."""

from typing import Any


class AnswerProgress:
    """A progress line: which row, under which condition, how many answers, how fast."""

    def __init__(self, console: Any) -> None:
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TextColumn("{task.completed} answers"),
            TimeElapsedColumn(),
            console=console,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.task = self.bar.add_task("preparing", total=None)

    def __enter__(self) -> "AnswerProgress":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def condition(self, row: str, condition: str) -> None:
        self.bar.update(self.task, description=f"{row} ({condition.replace('_', ' ')})")

    def answered(self, count: int) -> None:
        self.bar.advance(self.task, count)
