"""A judge: a model that reads answers where the official scorers ask for one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from omni.generation.settings import Generation
from omni.processing.messages import user

from ..answering.answerer import Answerer
from ..answering.store import AnswerStore, digest
from .bridge import random_state_kept

T = TypeVar("T")
PARALLEL = 16  # questions at a time


class Judge:
    """Answers what official code asks of its judge, all of it together and once.

    That code asks one thing after the other, sleeps over a failure, and then draws an answer at
    random. Here it runs twice: first its questions are only written down, then they are asked, and
    it runs again with the replies. What has no reply is wrong, and named in `problems`,
    and asked again when it is wanted again.

    Args:
        answerer: who replies.
        name: of the model, as the table prints it.
        weights: what the replies are kept under.
    """

    def __init__(self, answerer: Answerer, name: str, weights: str) -> None:
        self.answerer, self.name, self.weights = answerer, name, weights
        self.replies: dict[tuple[str, int], str] = {}
        self.wanted: dict[tuple[str, int], None] = {}

    @property
    def problems(self) -> list[str]:
        return self.answerer.problems

    def keep(self, folder: Path) -> None:
        """Keep the replies in `folder`, and know those that it holds."""
        of = digest(self.weights, self.answerer.settings)
        self.answerer.store = AnswerStore(folder, of, self.answerer.ranks)

    def reply(self, prompt: str, most: int) -> str:
        """The reply of at most `most` tokens; "" where there is none, or not yet."""
        question = prompt, most
        if question not in self.replies:
            self.wanted[question] = None
        return self.replies.get(question, "")

    def hear(self, score: Callable[[], T], of: str) -> T:
        """What `score` returns where `reply` replies; problems name the benchmark `of`."""
        with random_state_kept():
            self.wanted.clear()  # what had no reply the last time
            score()
            for most in {most for _, most in self.wanted}:
                prompts = [prompt for prompt, tokens in self.wanted if tokens == most]
                names = [f"{of}: judge {self.name}: {number}" for number in range(len(prompts))]
                asked = [[user(prompt)] for prompt in prompts]
                texts = self.answerer(asked, Generation(most), names)
                replies = zip(prompts, texts, strict=True)
                self.replies |= {(prompt, most): text for prompt, text in replies if text}
            return score()


def open_judge(address: str, model: str, **limits: Any) -> Judge:
    """The model of an OpenAI-compatible endpoint, asked for a word first.

    Its key is taken from OMNI_JUDGE_KEY, or else from OPENAI_API_KEY.

    Raises:
        ValueError: no model is named; OSError: the endpoint refuses, or does not answer.
    """
    from ..answering.backends.endpoint import open_endpoint

    if not model:
        raise ValueError(f"--judge {address} needs --judge-model: which model is to judge")
    opened = open_endpoint(address, model, key="OMNI_JUDGE_KEY", max_batch=PARALLEL, **limits)
    opened.answerer([[user('Say "ready".')]], Generation(8))
    if opened.answerer.problems and not opened.answerer.store.answers:  # one that thinks is there
        raise OSError(f"the judge at {address} does not answer: {opened.answerer.problems[0]}")
    opened.answerer.notes.clear()  # of that word
    return Judge(opened.answerer, model, opened.weights)
