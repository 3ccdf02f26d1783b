"""One model as the page asks it: an answer while it is written, its figures, its sound."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ...encoders import readers
from ...generation.settings import Completion, Generation
from ...generation.thinking import without_thinking
from ..content import Content
from ..encoding import Encoder
from ..engine import Engine
from ..limits import RequestLimits
from ..request import Asked
from ..ticket import Ended, EngineError, Event, Failed, GoneError, Spoke, Wrote

if TYPE_CHECKING:
    from ...generation.speech import Speaking
    from ...processing.processor import Encoded

DECODING = 2  # threads that decode media; what they hold is bounded by this


class Stop:
    """A visitor's word that an answer is not wanted any more; it may come from any thread."""

    def __init__(self) -> None:
        self.set, self._then, self._lock = False, [], threading.Lock()

    def then(self, call: Callable[[], None]) -> None:
        """Call this once the word comes, or now if it has."""
        with self._lock:
            if not self.set:
                self._then.append(call)
                return
        call()

    def __call__(self) -> None:
        with self._lock:
            self.set, calls, self._then = True, self._then, []
        for call in calls:
            call()


Report = Callable[[Event], None]
Submit = Callable[[Report], Callable[[], None]]  # returns what leaves the queue again


@dataclass(frozen=True)
class Answer:
    """What there is of an answer; `problem` says why there is no more."""

    text: str = ""
    note: str = ""
    problem: str = ""
    sound: bytes = b""  # WAV
    whole: bool = False  # nothing more of the text will come


class Answerer:
    """A checkpoint behind its engine.

    Args:
        name: what the page calls it.
        engine: owns the model; closed by whoever made it.
        limits: of a question and all before it.
    """

    def __init__(self, name: str, engine: Engine, limits: RequestLimits) -> None:
        self.name, self.engine, self.limits = name, engine, limits
        self.encoder = Encoder(engine.model, engine.processor, limits)
        self.threads = ThreadPoolExecutor(DECODING, "decode")

    @property
    def kinds(self) -> set[str]:
        """The kinds of media that the model reads."""
        modalities = self.engine.processor.modalities
        read = {kind for kind in ("image", "audio") if readers(modalities, kind)}
        return read | {"video"} if "image" in read else read

    @property
    def speaks(self) -> bool:
        """Whether the model can say its answers."""
        return not self.encoder.mute

    async def answer(
        self, read: Callable[[], Content], generation: Generation, speak: bool, stop: Stop
    ) -> AsyncIterator[Answer]:
        """Yield an answer as it grows; what goes wrong is the last one's `problem`.

        Args:
            read: returns the conversation, ending with a question; called in another thread.
            generation: how it is answered.
            speak: say the answer too.
            stop: ends it within one token; what is there by then stays.
        """
        found = Answer()
        yield replace(found, note="reading")
        try:
            loop = asyncio.get_running_loop()
            content = await loop.run_in_executor(self.threads, read)
            async for found in self._written(content, generation, stop):
                yield found
            if speak:
                yield replace(found, note=f"{found.note}; speaking")
                sound, about = await self._said(content, found.text, generation, stop)
                yield replace(found, sound=sound, note=f"{found.note}; {about}")
        except GoneError:
            yield replace(found, note=f"{found.note}, stopped", whole=True)
        except Exception as error:  # shown, whatever it is, so that the visitor can go on
            yield replace(found, problem=_reason(error), whole=True)

    async def _written(
        self, content: Content, generation: Generation, stop: Stop
    ) -> AsyncIterator[Answer]:
        asked = Asked(content, generation, False, True, False, False, self.limits.deadline)
        encoded = asyncio.get_running_loop().run_in_executor(
            self.threads, asked.encode, self.encoder
        )
        prompt, key, generation = await encoded
        given = tokens_of(self.engine.processor, prompt)
        yield Answer(note=given)
        began, first = time.monotonic(), 0.0
        asking = self._asking(prompt, key, generation)
        async for event in _reported(asking, stop):
            first = first or time.monotonic() - began
            if isinstance(event, Ended):
                spent = time.monotonic() - began
                note = f"{given} → {_figures(event.completion, generation, first, spent)}"
                yield Answer(event.completion.text, note, whole=True)
            elif isinstance(event, Wrote):
                yield Answer(event.text, given)

    def _asking(self, prompt: "Encoded", key: str, how: "Generation | Speaking") -> Submit:
        def submit(report: Report) -> Callable[[], None]:
            ticket = self.engine.submit(prompt, key, how, report, self.limits.deadline)
            return lambda: self.engine.cancel(ticket)

        return submit

    async def _said(
        self, content: Content, text: str, generation: Generation, stop: Stop
    ) -> "tuple[bytes, str]":
        """Return the sound of an answer, a WAV file's bytes, and what there is to know of it."""
        import torch

        from ..speech.sounds import length_of, wav

        prompt, key, how = await asyncio.get_running_loop().run_in_executor(
            self.threads, self.encoder.to_say, content.messages, without_thinking(text),
            generation.temperature, generation.seed, content.place,
        )  # fmt: skip
        pieces = [torch.zeros(0)]
        async for event in _reported(self._asking(prompt, key, how), stop):
            if isinstance(event, Spoke):
                pieces.append(event.wave)
            elif isinstance(event, Ended):
                wave = torch.cat(pieces)
                return wav(wave), length_of(wave, event.completion)
        raise GoneError("stopped")


async def _reported(submit: Submit, stop: Stop) -> AsyncIterator[Event]:
    """Submit, and yield what is reported; of several texts that came, only the last.

    Raises:
        Exception: what failed, as it was reported.
    """
    loop, queue = asyncio.get_running_loop(), asyncio.Queue()

    def report(event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed with the server
            loop.call_soon_threadsafe(queue.put_nowait, event)

    leave = submit(report)

    def stopped() -> None:
        leave()
        report(Failed(GoneError("stopped")))

    stop.then(stopped)
    try:
        event: Event = Wrote(0, "")
        while isinstance(event, Wrote | Spoke):
            event = await queue.get()
            while isinstance(event, Wrote) and not queue.empty():
                event = queue.get_nowait()
            if isinstance(event, Failed):
                raise event.error
            yield event
    finally:  # the visitor may have gone away
        leave()


def tokens_of(processor: Any, prompt: "Encoded") -> str:
    """Count the tokens of a prompt by modality, in words: "12 text + 64 vision tokens"."""
    counts = {
        name: int((prompt.input_ids == config["token_id"]).sum())
        for name, config in processor.modalities.items()
    }
    counts = {"text": len(prompt) - sum(counts.values())} | counts
    return " + ".join(f"{count:,} {name}" for name, count in counts.items() if count) + " tokens"


def _figures(completion: Completion, generation: Generation, first: float, spent: float) -> str:
    count = len(completion.ids)
    cut = f", cut at {generation.max_new_tokens}" if completion.finish == "length" else ""
    return f"{count:,} in {spent:.1f} s, the first after {first:.1f} s{cut}"


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    ours = isinstance(error, ValueError | EngineError) and text
    return text if ours else f"{type(error).__name__}: {text}"
