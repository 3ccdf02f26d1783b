"""A sound -> what is said in it: OpenAI's /v1/audio/transcriptions."""

import re
from dataclasses import dataclass, field
from typing import Any

from ..generation.settings import Completion
from ..generation.thinking import without_thinking
from ..generation.watch import settled_answer
from ..processing.asking import ASK_TRANSCRIPT
from ..processing.messages import audio, system, user
from .content import Content
from .fields import Fields
from .limits import RequestLimits
from .refusal import RequestError, short
from .replies import EVENTS, event_line
from .request import Asked, read_common
from .ticket import Ended, Event, Wrote

FORMATS = ("json", "text", "verbose_json")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*", re.ASCII)


@dataclass
class Transcribed(Asked):
    """A request for a transcript: the sound, the form of the answer, and what was said of it."""

    sound: bytes = b""
    form: str = "json"
    language: str = ""


def read_transcription(fields: Fields, model: str, limits: RequestLimits) -> Transcribed:
    """Read a request.

    What it says of the sound, its `language` and a `prompt`, goes before it as a system message:
    the question itself is the one that models are trained and evaluated with.

    Raises:
        RequestError: names what is wrong, why, and what is allowed.
    """
    sound = fields.take("file", bytes)
    form = fields.take("response_format", str, default="json")
    if form not in FORMATS:
        raise RequestError(f"must be one of {', '.join(FORMATS)}, not {short(form)}",
                           "response_format")  # fmt: skip
    language = fields.take("language", str, default="")
    if language and not _LANGUAGE.fullmatch(language):
        raise RequestError(f"must be a code like en, not {short(language)}", "language")
    hint = fields.take("prompt", str, default="")
    if len(hint) > limits.max_characters:
        raise RequestError(f"over the limit of {limits.max_characters:,} characters", "prompt")
    fields.allow(n=(1,))
    said = "\n".join([*([f"Language: {language}"] if language else []), *([hint] if hint else [])])
    messages = [*([system(said)] if said else []), user(audio(sound), ASK_TRANSCRIPT)]
    content = Content(messages, ["file"], 1, len(said), "file")
    asked = read_common(fields, model, limits, ("max_tokens",), False, lambda: content)
    if asked.stream and form != "json":
        raise RequestError(f"{form} is for whole answers; a stream has events", "response_format")
    return Transcribed(**vars(asked), sound=sound, form=form, language=language)


@dataclass
class Transcript:
    """Collects the events of one transcription.

    Args:
        asked: the request.
        prompt_tokens: as the processor counts them.
    """

    asked: Transcribed
    prompt_tokens: int
    media_type = EVENTS  # of a stream
    sent: int = field(default=0, init=False)  # characters
    completion: Completion | None = field(default=None, init=False)

    def add(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, Ended):
            self.completion = event.completion

    @property
    def body(self) -> str | dict[str, Any]:
        """The whole answer: a text, or what becomes JSON."""
        from ..media.facts import facts_of

        if self.asked.form == "text":
            return self._text + "\n"
        if self.asked.form == "json":
            return {"text": self._text, "usage": self._usage}
        facts = facts_of("audio", self.asked.sound)
        seconds = round(facts.count / facts.rate, 3)
        return {"task": "transcribe", "language": self.asked.language, "duration": seconds,
                "text": self._text, "usage": {"type": "duration", "seconds": seconds}}  # fmt: skip

    def chunks(self, event: Event) -> list[bytes]:
        """Return what a stream sends at an event, and at its end."""
        if isinstance(event, Wrote):
            text = settled_answer(event.text)
        else:
            text = self._text if self.completion else ""
        new, self.sent = text[self.sent :], max(self.sent, len(text))
        lines = [event_line({"type": "transcript.text.delta", "delta": new})] if new else []
        if self.completion:
            done = {"type": "transcript.text.done", "text": self._text, "usage": self._usage}
            lines.append(event_line(done))
        return lines

    @property
    def _text(self) -> str:
        return without_thinking(self.completion.text) if self.completion else ""

    @property
    def _usage(self) -> dict[str, Any]:
        new = len(self.completion.ids) if self.completion else 0
        return {"type": "tokens", "input_tokens": self.prompt_tokens, "output_tokens": new,
                "total_tokens": self.prompt_tokens + new}  # fmt: skip
