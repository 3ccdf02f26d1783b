"""The page on which a visitor talks with one model."""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from ...generation.settings import Generation
from .answerer import Answer, Answerer, Stop
from .drawer import Drawer
from .examples import Example
from .talk import Talk, Turn

EMPTY = {"text": "", "files": []}


class Chat:
    """Builds the page and answers what is clicked on it; each visitor has a `Talk` of their own.

    Args:
        answerer: the model.
        generation: what the settings begin with.
        examples: that a click asks.
    """

    def __init__(
        self, answerer: Answerer, generation: Generation, examples: Sequence[Example]
    ) -> None:
        self.answerer, self.examples = answerer, examples
        with gr.Blocks(title=answerer.name, analytics_enabled=False) as self.page:
            gr.Markdown(f"# {answerer.name}", elem_id="title")
            self.talk = gr.State(Talk())
            self.shown = conversation("Conversation")
            self.box = question_box()
            with gr.Row(elem_id="actions"):
                stop = gr.Button("Stop", size="sm", min_width=80)
                again = gr.Button("Regenerate", size="sm", min_width=80)
                edit = gr.Button("Edit", size="sm", min_width=80)
            asked = example_buttons(examples)
            self.drawer = Drawer(generation, answerer.limits, answerer.speaks)
            self._listen(stop, again, edit, asked)

    def _listen(self, stop: Any, again: Any, edit: Any, asked: Sequence[Any]) -> None:
        both, given = [self.shown, self.box], [self.talk, *self.drawer.fields]
        on(self.box.submit, self.ask, [self.box, *given], both)
        on(again.click, self.regenerate, given, [self.shown])
        on(stop.click, halt, [self.talk], [])
        on(edit.click, self.edit, [self.talk], both)
        on(self.shown.clear, self.clear, [self.talk], both)
        for number, button in enumerate(asked):
            on(button.click, partial(self.example, number), given, [self.shown])

    async def ask(self, box: dict[str, Any], talk: Talk, *values: Any) -> AsyncIterator[Any]:
        """Answer what is in the box."""
        turn = Turn(box.get("text") or "", [Path(file) for file in box.get("files") or []])
        if not turn.text.strip() and not turn.files:
            yield talk.shown(), box
            return
        typed: Any = EMPTY  # what is typed while the answer is written stays
        async for shown in self._answer(talk, turn, values):
            yield shown, typed
            typed = gr.skip()

    async def example(self, number: int, talk: Talk, *values: Any) -> AsyncIterator[Any]:
        """Answer an example."""
        found = self.examples[number]
        turn = Turn(found.text, list(found.files), expected=found.expected)
        async for shown in self._answer(talk, turn, values):
            yield shown

    async def regenerate(self, talk: Talk, *values: Any) -> AsyncIterator[Any]:
        """Answer the last question again, with the next seed."""
        halt(talk)
        if not talk.turns:
            yield []
            return
        last = talk.turns.pop()
        turn = Turn(last.text, last.files, last.expected, last.tries + 1)
        async for shown in self._answer(talk, turn, values):
            yield shown

    def edit(self, talk: Talk) -> tuple[Any, Any]:
        """Take the last question back into the box."""
        halt(talk)
        if not talk.turns:
            return [], gr.skip()
        last = talk.turns.pop()
        return talk.shown(), {"text": last.text, "files": [str(file) for file in last.files]}

    def clear(self, talk: Talk) -> tuple[Any, Any]:
        """Forget the conversation."""
        halt(talk)
        talk.turns.clear()
        return [], EMPTY

    async def _answer(
        self, talk: Talk, turn: Turn, values: tuple[Any, ...]
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """Add a turn, and yield the conversation as its answer grows."""
        halt(talk)
        talk.turns.append(turn)
        async for _ in answered(self.answerer, talk, values):
            yield talk.shown()


async def answered(
    answerer: Answerer, talk: Talk, values: tuple[Any, ...]
) -> AsyncIterator[Answer]:
    """Let a model answer the last turn of a talk, and yield as its answer grows."""
    turn, stop = talk.turns[-1], Stop()
    talk.stop = stop
    try:
        generation, speak = Drawer.read(values, turn.tries)
    except ValueError as error:
        turn.answer = Answer(problem=str(error), whole=True)
        yield turn.answer
        return
    turns = [*talk.turns]
    try:
        answers = answerer.answer(
            lambda: Talk(turns).content(answerer.limits), generation, speak, stop
        )
        async for turn.answer in answers:
            if turn.answer.sound:
                kept = save_bytes_to_cache(turn.answer.sound, "answer.wav", get_upload_folder())
                turn.sound = Path(kept)
            yield turn.answer
    finally:
        if not turn.answer.whole:  # the visitor left
            stop()


def halt(talk: Talk) -> None:
    """Stop the answer that is being written, if there is one."""
    if talk.stop:
        talk.stop()


def on(listen: Any, do: Any, inputs: list[Any], outputs: list[Any]) -> None:
    """Let an event do something, at once: what waits for a model waits in the engine's queue."""
    listen(do, inputs, outputs, concurrency_limit=None, show_progress="hidden", api_name=False)


def conversation(label: str, height: str = "52vh") -> gr.Chatbot:
    """Show turns as plain text: what a model writes is never taken for markup."""
    return gr.Chatbot(
        label=label, height=height, render_markdown=False, buttons=["copy"], layout="bubble",
        allow_tags=False, feedback_options=None, elem_classes="conversation",
        placeholder="Type a question, drop a picture, record your voice.", min_width=300,
    )  # fmt: skip


def question_box() -> gr.MultimodalTextbox:
    """Take a text, and pictures, sounds and videos, uploaded or recorded."""
    return gr.MultimodalTextbox(
        sources=["upload", "microphone"], file_count="multiple", show_label=False, autofocus=True,
        file_types=["image", "audio", "video"], label="Question", elem_id="question",
        placeholder="Ask about pictures, sounds, videos ...", max_plain_text_length=1_000_000,
    )  # fmt: skip


def example_buttons(examples: Sequence[Example]) -> list[gr.Button]:
    """Show the examples, which training has not seen."""
    if not examples:
        return []
    with (
        gr.Accordion("Examples that training has not seen", open=True, elem_id="examples"),
        gr.Row(elem_classes="examples"),
    ):
        return [gr.Button(one.label, icon=one.icon, size="sm", min_width=180) for one in examples]
