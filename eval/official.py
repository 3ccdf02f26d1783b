"""An official lmms-eval task as a row of a table."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .batching import Answerer, Messages
from .bridge import TaskResult, load_task, run_task
from .failures import keep_pictures
from .own import MissingDataError
from .scoring import Outcome, Scored


@dataclass(frozen=True)
class Benchmark:
    """A public benchmark: lmms-eval's task for it, and what its answers are worth.

    `how` is "official" where the official code scores, "static" where it does so without the judge
    that the published numbers used.
    """

    name: str
    title: str
    """as published tables print it"""
    task: str
    folder: str
    """under lmms-eval's tasks"""
    split: str
    rows: int
    """of the published split; fewer are not the benchmark"""
    score: Callable[[TaskResult], Scored]
    truth: Callable[[dict[str, Any]], str]
    """doc -> an answer that the official code must count as right"""
    max_new_tokens: int
    how: str
    overrides: Callable[[], dict[str, Any]] = dict
    """keys of the official yaml to replace; a function, for they may need lmms-eval itself"""
    rule: str = ""
    """what a reader of the score must know of its scorer: a trap, or where it was mended"""


class Source(Protocol):
    """Where a suite takes its docs from."""

    @property
    def digest(self) -> str:
        """Of everything that is read."""
        ...

    @property
    def label(self) -> str:
        """One phrase for the reader of a table."""
        ...


# (source, benchmark, limit, scratch) -> files to read as the split
Files = Callable[[Any, Benchmark, int | None, Path], list[Path]]


@dataclass(frozen=True)
class Official:
    """A benchmark as a row of a suite, on the docs that `files` finds or makes."""

    name: str
    benchmark: Benchmark
    files: Files
    controls: tuple[str, ...] = ("blind",)

    @property
    def how(self) -> str:
        return self.benchmark.how

    @property
    def title(self) -> str:
        """The benchmark's title, where this is the benchmark and no small set of our own."""
        return self.benchmark.title if self.name == self.benchmark.name else self.name

    @property
    def max_new_tokens(self) -> int:
        return self.benchmark.max_new_tokens

    def task(self, source: Any, limit: int | None, scratch: Path) -> Any:
        """The official task object on this row's docs, fresh.

        Raises:
            MissingDataError: there are no docs for this benchmark; says what to do.
        """
        benchmark = self.benchmark
        try:
            files = self.files(source, benchmark, limit, scratch)
        except LookupError as error:
            raise MissingDataError(str(error)) from error
        return load_task(
            benchmark.task, benchmark.folder, benchmark.split, files, scratch / "arrow",
            **benchmark.overrides(),
        )  # fmt: skip

    def run(
        self, answerer: Answerer, source: Any, condition: str, limit: int | None, scratch: Path
    ) -> Scored:
        """Ask every doc under one condition, "seen" or "blind" (images removed), and score.

        Pictures of some wrong answers go beside `scratch`, which lies in the folder of results.

        Raises:
            MissingDataError: there are no docs for this benchmark; says what to do.
        """
        task = self.task(source, limit, scratch)
        from .adapter import ChatModel, convert

        chat = ChatModel(answerer, blind=condition == "blind", cap=self.max_new_tokens)
        result = run_task(task, chat, scratch / "official" / self.name / condition)
        scored = self.benchmark.score(result)
        if condition == "seen":
            docs = task.eval_docs

            def asked(outcome: Outcome) -> Messages:
                return convert(task.doc_to_messages(docs[int(outcome.doc)]))

            keep_pictures(self.name, scored.outcomes, asked, scratch.parent)
        if self.benchmark.rule:
            scored.details["rule"] = self.benchmark.rule
        return scored
