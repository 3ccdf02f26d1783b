"""An official lmms-eval task as a row of a table."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ..answering.answerer import Answerer, Messages
from ..answering.failures import keep_pictures
from ..rows.own import MissingDataError
from ..scoring.right import Outcome, Scored
from .benchmark import Benchmark
from .bridge import TaskResult, load_task, run_task
from .decoding import tolerant
from .docs import draw, forgive, keep, scorable, units_of
from .judge import Judge

log = logging.getLogger(__name__)


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


# (source, benchmark, limit, scratch) -> files to read as the split; None: the official dataset
Files = Callable[[Any, Benchmark, int | None, Path], list[Path] | None]


@dataclass(frozen=True)
class Official:
    """A benchmark as a row of a suite, on the docs that `files` finds or makes."""

    name: str
    benchmark: Benchmark
    files: Files
    cap: int | None = None
    """most new tokens, instead of the benchmark's"""
    most: int | None = None
    """most new tokens, whatever the benchmark, its task or `cap` say"""
    units: int | None = None
    """how many there are to be, where what they are made of suffices"""
    controlled: int | None = None
    """most units that are asked under a control"""
    public: bool = False
    """its docs are to be those of the published split, all of them"""
    judge: Judge | None = None
    """reads the answers of those benchmarks that are `judged`"""

    @property
    def how(self) -> str:
        if self.judge is None or self.benchmark.judged is None:
            return self.benchmark.how
        return f"judged by {self.judge.name}"

    @property
    def controls(self) -> tuple[str, ...]:
        return self.benchmark.controls

    @property
    def title(self) -> str:
        """The benchmark's title, where this is the benchmark and no small set of our own."""
        return self.benchmark.title if self.name == self.benchmark.name else self.name

    @property
    def max_new_tokens(self) -> int:
        return self.most or self.cap or self.benchmark.max_new_tokens

    def with_limit(self, max_new_tokens: int) -> "Official":
        """The same row with answers of at most so many tokens, also where officially fewer."""
        return replace(self, most=max_new_tokens)

    def run(
        self, answerer: Answerer, source: Any, condition: str, limit: int | None, scratch: Path
    ) -> Scored:
        """Ask every doc under one condition, "normal" or "blind" (images removed), and score.

        Pictures of some that fail go beside `scratch`, which lies in the folder of results.

        Raises:
            MissingDataError: there are no docs for this benchmark, or they lack a column; says
                what to do.
        """
        task, docs, unusable = self.load(source, limit, scratch)
        fewer = self._fewer(task, docs, limit)
        if condition != "normal" and self.controlled:
            docs = draw(task, self.benchmark, docs, self.controlled)
        from .adapter import ChatModel, convert

        unscorable = forgive(task)
        blind = condition == "blind"
        chat = ChatModel(answerer, blind, self.max_new_tokens, docs, self.most)
        try:
            result = run_task(task, chat, scratch / "official" / self.name / condition)
            for sample in result.samples:
                sample["doc_id"] = docs[sample["doc_id"]]
            scored = self._score(result)
            for outcome in scored.outcomes:
                outcome.answer = chat.written.get(int(outcome.doc), outcome.answer)
        except Exception as error:
            if not chat.answered:  # the model's fault, or ours
                raise
            log.exception("%s: scoring", self.name)
            first = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise MissingDataError(f"lmms-eval cannot score these answers: {first}") from error
        if condition == "normal":

            def asked(outcome: Outcome) -> Messages:
                doc = task.dataset[self.benchmark.split][docs.index(int(outcome.doc))]
                return convert(task.doc_to_messages(doc))

            with tolerant():
                keep_pictures(self.name, scored.outcomes, asked, scratch.parent)
        if self.benchmark.rule and self.how == self.benchmark.how:
            scored.details["rule"] = self.benchmark.rule
        scored.details["max_new_tokens"] = chat.longest
        if self.public and chat.official and chat.longest != chat.official:
            scored.details["official_max_new_tokens"] = chat.official
        if unscorable:
            scored.details["unscorable"] = unscorable
        if fewer:
            scored.details["fewer"] = fewer
        if unusable:
            scored.details["left_out"] = unusable
        if self.public and len(scored.outcomes) != self.benchmark.rows:
            scored.details["incomplete"] = f"{len(scored.outcomes)} of {self.benchmark.rows} docs"
        return scored

    def _fewer(self, task: Any, docs: Sequence[int], limit: int | None) -> str:
        """In words how many units there are, where these are not as many as there are to be."""
        if not self.units:
            return ""
        wanted = min(self.units, limit or self.units)
        found = len(units_of(task, self.benchmark, range(len(docs))))
        return f"{found} of {wanted}" if found < wanted else ""

    def _score(self, result: TaskResult) -> Scored:
        if self.judge is None or self.benchmark.judged is None:
            return self.benchmark.score(result)
        before = len(self.judge.problems)
        scored = self.benchmark.judged(result, self.judge)
        if unjudged := self.judge.problems[before:]:
            scored.details["unjudged"] = unjudged
        return scored

    def load(
        self, source: Any, limit: int | None, scratch: Path
    ) -> tuple[Any, Sequence[int], list[str]]:
        """The official task, which docs of the split it holds, and which cannot be scored and why.

        Raises:
            MissingDataError: see `run`.
        """
        benchmark = self.benchmark
        try:
            files = self.files(source, benchmark, limit, scratch)
        except LookupError as error:
            raise MissingDataError(str(error)) from error
        try:
            task = load_task(
                benchmark.task, benchmark.folder, benchmark.split, files, scratch / "arrow",
                **benchmark.overrides(), **self._videos(source),
            )  # fmt: skip
        except (Exception, SystemExit) as error:  # datasets and the hub raise nearly anything
            raise MissingDataError(_why(error, benchmark, files)) from error
        wanted, unusable = scorable(task, benchmark)
        return task, keep(task, benchmark, wanted, limit), unusable

    def _videos(self, source: Any) -> dict[str, Any]:
        """Look beside the rows for videos; the official code looks where it downloads them to."""
        name, find = self.benchmark.video, getattr(source, "video", None)
        if name is None or find is None:
            return {}

        def show(doc: dict[str, Any], lmms_eval_specific_kwargs: Any = None) -> list[str]:
            return [str(find(self.benchmark, name(doc)))]

        return {"doc_to_visual": show}


def _why(error: BaseException, benchmark: Benchmark, files: list[Path] | None) -> str:
    if isinstance(error, KeyError):
        return f"{benchmark.title}: the column {error} is missing"
    if isinstance(error, ModuleNotFoundError):
        return (
            str(error) if error.name is None else f"{benchmark.title} needs {error.name}: {error}"
        )
    where = files[0].parent if files else "the hub (--data reads a folder instead)"
    first = str(error).strip().partition("\n")[0]
    return f"{benchmark.title} from {where}: {type(error).__name__}: {first}"
