"""The page on which a visitor asks two models at once and says which answer is better."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from ...generation.settings import Generation
from .answerer import Answerer
from .chat import EMPTY, answered, conversation, example_buttons, halt, on, question_box
from .drawer import Drawer
from .examples import Example
from .talk import Talk, Turn
from .votes import TIES, Votes

SIDES = ("left", "right")
CHOICES = {"left": "Left is better", "right": "Right is better",
           "tie": "Tie", "both bad": "Both are bad"}  # fmt: skip


@dataclass
class Round:
    """One visitor's question to both: each has a talk of its own, left and right.

    Args:
        talks: left, right.
        order: the numbers of the models, left and right.
        asked: questions so far.
        voted: whether this one has a vote.
        values: of the settings, when it was asked.
    """

    talks: tuple[Talk, Talk] = field(default_factory=lambda: (Talk(), Talk()))
    order: tuple[int, int] = (0, 1)
    asked: int = 0
    voted: bool = False
    values: tuple[Any, ...] = ()

    @property
    def choices(self) -> tuple[str, ...]:
        """What may be voted for: nothing before both answers are whole."""
        answers = [talk.turns[0].answer for talk in self.talks if talk.turns]
        if len(answers) < 2 or self.voted or any(a.problem or not a.whole for a in answers):
            return ()
        left, right = (answer.text for answer in answers)
        return tuple(CHOICES) if left and right and left != right else TIES


class Compare:
    """Builds the page of two models and answers what is clicked on it.

    Each question is asked by itself, so that both models answer the same.

    Args:
        answerers: the two, of different names.
        generation: what the settings begin with; its seed decides who is left where it is blind.
        examples: that a click asks.
        votes: where votes are kept.
        blind: hide who is who until the vote.
    """

    def __init__(
        self, answerers: tuple[Answerer, Answerer], generation: Generation,
        examples: Sequence[Example], votes: Votes, blind: bool,
    ) -> None:  # fmt: skip
        self.answerers, self.examples = answerers, examples
        self.votes, self.blind, self.seed = votes, blind, generation.seed
        names = [answerer.name for answerer in answerers]
        title = "Two models" if blind else " against ".join(names)
        labels = [side.capitalize() for side in SIDES] if blind else names
        with gr.Blocks(title=title, analytics_enabled=False) as self.page:
            gr.Markdown(f"# {title}", elem_id="title")
            self.round = gr.State(Round())
            with gr.Row():
                self.shown = [conversation(label, "40vh") for label in labels]
            with gr.Row(elem_id="votes"):
                self.buttons = [gr.Button(text, size="sm", min_width=120, interactive=False)
                                for text in CHOICES.values()]  # fmt: skip
            self.result = gr.Markdown("", elem_id="result")
            self.box = question_box()
            stop = gr.Button("Stop", size="sm")
            asked = example_buttons(examples)
            self.drawer = Drawer(generation, answerers[0].limits, False)
            self._listen(stop, asked)

    def _listen(self, stop: Any, asked: Sequence[Any]) -> None:
        outputs = [*self.shown, *self.buttons, self.result]
        given = [self.round, *self.drawer.fields]
        on(self.box.submit, self.ask, [self.box, *given], [*outputs, self.box])
        on(stop.click, self.stop, [self.round], [])
        for choice, button in zip(CHOICES, self.buttons, strict=True):
            on(button.click, partial(self.vote, choice), [self.round], outputs)
        for number, button in enumerate(asked):
            on(button.click, partial(self.example, number), given, outputs)
        for shown in self.shown:
            on(shown.clear, self.clear, [self.round], outputs)

    async def ask(self, box: dict[str, Any], found: Round, *values: Any) -> AsyncIterator[Any]:
        """Ask both what is in the box."""
        turn = Turn(box.get("text") or "", [Path(file) for file in box.get("files") or []])
        if not turn.text.strip() and not turn.files:
            yield *self._seen(found), gr.skip(), box
            return
        typed: Any = EMPTY
        async for shown in self._answer(found, turn, values):
            yield *shown, typed
            typed = gr.skip()

    async def example(self, number: int, found: Round, *values: Any) -> AsyncIterator[Any]:
        """Ask both an example."""
        one = self.examples[number]
        async for shown in self._answer(
            found, Turn(one.text, list(one.files), one.expected), values
        ):
            yield shown

    def vote(self, choice: str, found: Round) -> list[Any]:
        """Keep a vote, and say who is who."""
        if choice not in found.choices:
            return [*self._seen(found), gr.skip()]
        models = [self.answerers[n] for n in found.order]
        answers = {m.name: talk.turns[0].answer.text
                   for m, talk in zip(models, found.talks, strict=True)}  # fmt: skip
        named = choice if choice in TIES else [*answers][SIDES.index(choice)]
        generation, _ = Drawer.read(found.values)
        try:
            content = found.talks[0].content(models[0].limits)
            self.votes.keep(content, answers, named, generation, self.blind)
        except (OSError, ValueError) as error:
            return [*self._seen(found), f"The vote was not kept: {error}"]
        found.voted = True
        kept = ", ".join(f"{name} {count}" for name, count in self.votes.count().items())
        left, right = answers
        return [*self._seen(found), f"Left is {left}, right is {right}. Votes so far: {kept}."]

    def stop(self, found: Round) -> None:
        """Stop both answers."""
        for talk in found.talks:
            halt(talk)

    def clear(self, found: Round) -> list[Any]:
        """Forget the question."""
        self.stop(found)
        for talk in found.talks:
            talk.turns.clear()
        return [*self._seen(found), ""]

    async def _answer(
        self, found: Round, turn: Turn, values: tuple[Any, ...]
    ) -> AsyncIterator[list[Any]]:
        """Let both answer at once, and yield what the page shows as they do."""
        self.clear(found)
        found.asked, found.voted, found.values = found.asked + 1, False, values
        found.order = (1, 0) if self.blind and self._swapped(found.asked, turn.text) else (0, 1)
        moved: asyncio.Queue[bool] = asyncio.Queue()

        async def follow(number: int, talk: Talk) -> None:
            talk.turns.append(Turn(turn.text, turn.files, turn.expected))
            async for _ in answered(self.answerers[number], talk, values):
                moved.put_nowait(False)

        tasks = [asyncio.create_task(follow(number, talk))
                 for number, talk in zip(found.order, found.talks, strict=True)]  # fmt: skip
        for task in tasks:
            task.add_done_callback(lambda _: moved.put_nowait(True))
        try:
            left = len(tasks)
            while left:
                left -= await moved.get()
                while left and not moved.empty():
                    left -= moved.get_nowait()
                yield [*self._seen(found), ""]
        finally:  # the visitor may have left
            for task in tasks:
                task.cancel()

    def _swapped(self, number: int, text: str) -> bool:
        digest = hashlib.sha256(f"{self.seed} {number} {text}".encode("utf-8", "replace")).digest()
        return bool(digest[0] & 1)

    def _seen(self, found: Round) -> list[Any]:
        """What both sides show, and the buttons."""
        notes = found.voted or not self.blind
        talks = [talk.shown(notes) for talk in found.talks]
        return talks + [gr.Button(interactive=choice in found.choices) for choice in CHOICES]
