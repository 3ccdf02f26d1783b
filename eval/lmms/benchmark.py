"""A public benchmark: lmms-eval's task for it, and what its answers are worth."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..scoring.right import Scored
from .bridge import TaskResult
from .judge import Judge


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
    """of the published split; fewer are not the benchmark, more hold something twice"""
    score: Callable[[TaskResult], Scored]
    truth: Callable[[dict[str, Any]], str]
    """doc -> an answer that the official code must count as right"""
    max_new_tokens: int
    """what an answer needs; the official limit, where that is less, holds as well"""
    how: str
    overrides: Callable[[], dict[str, Any]] = dict
    """keys of the official yaml to replace; a function, for they may need lmms-eval itself"""
    rule: str = ""
    """what a reader of the score must know of its scorer: a trap, or where it was mended"""
    unit: Callable[[dict[str, Any]], Any] | None = None
    """doc -> what it is scored together with; None: every doc counts for itself"""
    judged: Callable[[TaskResult, Judge], Scored] | None = None
    """the same with the judge that the published numbers used"""
    aliases: tuple[str, ...] = ()
    """folders of its files, beside name and title: REPOSITORY/CONFIGURATION"""
    controls: tuple[str, ...] = ("blind",)
    video: Callable[[dict[str, Any]], str] | None = None
    """doc -> the name of its video's file"""

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, self.title, *self.aliases)
