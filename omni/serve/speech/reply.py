"""Answers to a chat that are spoken, in OpenAI's shape: sound, and a transcript of it."""

import base64
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from ...generation.settings import Completion
from ...generation.speech import Utterance
from ...generation.thinking import without_thinking
from ...generation.watch import settled_answer
from ..replies import Json, Reply
from ..ticket import Ended, Event, Spoke, Wrote
from .sounds import Pcm, wav


@dataclass
class SpokenReply(Reply):
    """Collects the events of one answer: its text, and then its sound.

    Args:
        form: of the sound: wav, or pcm16.
    """

    form: str = "wav"
    said: Utterance | None = None
    pieces: list[Any] = field(default_factory=list)
    pcm: Pcm = field(default_factory=Pcm)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.id = "audio_" + secrets.token_hex(12)

    def add(self, event: Event) -> None:
        if isinstance(event, Spoke):
            self.pieces.append(event.wave)
        elif isinstance(event, Ended) and isinstance(event.completion, Utterance):
            self.said = event.completion
        else:
            super().add(event)

    @property
    def body(self) -> Json:
        import torch

        wave = torch.cat([*self.pieces, torch.zeros(0)])
        data = wav(wave) if self.form == "wav" else self.pcm.push(wave, last=True)
        sound = {"id": self.id, "data": base64.b64encode(data).decode(),
                 "expires_at": int(time.time()), "transcript": self._transcript}  # fmt: skip
        message = {"role": "assistant", "content": None, "audio": sound}
        choice = {"index": 0, "finish_reason": self._finish, "logprobs": None, "message": message}
        return {**self.head, "object": self.kind, "choices": [choice], "usage": self._tokens()}

    def chunks(self, event: Event) -> list[bytes]:
        if isinstance(event, Wrote):
            return self._text(settled_answer(event.text))
        if isinstance(event, Ended) and isinstance(event.completion, Completion):
            return self._text(self._transcript)
        wave = event.wave if isinstance(event, Spoke) else self._silence
        data = self.pcm.push(wave, last=self.said is not None)
        lines = [self._delta({"data": base64.b64encode(data).decode()})] if data else []
        if self.said:
            lines += [self._delta({"expires_at": int(time.time())}, self._finish), *self._last()]
        return lines

    def _text(self, text: str) -> list[bytes]:
        new = text[len(self.sent.get(0, "")) :]
        if not new:
            return []
        self.sent[0] = self.sent.get(0, "") + new
        return [self._delta({"transcript": new})]

    def _delta(self, sound: Json, finish: str | None = None) -> bytes:
        delta = {"role": "assistant", "content": None, "audio": {"id": self.id, **sound}}
        return self._line({"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None})

    @property
    def _silence(self) -> Any:
        import torch

        return torch.zeros(0)

    @property
    def _transcript(self) -> str:
        return without_thinking(self.ended[0].text)

    @property
    def _finish(self) -> str:
        """Cut, if its text is or its sound."""
        cut = self.said and self.said.finish == "length"
        return "length" if cut else self.ended[0].finish

    def _tokens(self) -> Json:
        found = super()._tokens()
        frames = len(self.said.codes) if self.said else 0
        found["completion_tokens"] += frames
        found["total_tokens"] += frames
        details = found.setdefault("completion_tokens_details", {})
        details["audio_tokens"] = frames
        return found
