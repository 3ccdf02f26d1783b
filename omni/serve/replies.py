"""Answers in OpenAI's shapes, whole or as the chunks of a stream."""

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..generation.settings import Completion
from .ticket import Ended, Event, Wrote

Json = dict[str, Any]
EVENTS = "text/event-stream"


def event_line(body: Mapping[str, Any]) -> bytes:
    """Write an event of a stream."""
    return b"data: " + json.dumps(body).encode() + b"\n\n"


@dataclass
class Reply:
    """Collects the events of one request and puts them into words of JSON.

    Args:
        model: its name.
        chat: answers are messages; otherwise they are texts.
        n: answers that are wanted.
        prompt_tokens: as the processor counts them.
        tokenizer: spells the tokens of `logprobs`; None where they are not wanted.
        usage: a stream ends with the numbers of tokens.
    """

    model: str
    chat: bool
    n: int
    prompt_tokens: int
    tokenizer: Any = None
    usage: bool = False
    media_type = EVENTS  # of a stream
    ended: dict[int, Completion] = field(default_factory=dict)
    sent: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        prefix = "chatcmpl-" if self.chat else "cmpl-"
        self.head = {"id": prefix + secrets.token_hex(12), "created": int(time.time()),
                     "model": self.model}  # fmt: skip
        self.kind = "chat.completion" if self.chat else "text_completion"

    def add(self, event: Event) -> None:
        """Take an event; what the worker had to begin anew is what it was."""
        if isinstance(event, Ended):
            self.ended[event.choice] = event.completion

    @property
    def whole(self) -> bool:
        return len(self.ended) == self.n

    @property
    def body(self) -> Json:
        """The whole answer."""
        choices = [self._choice(number, self.ended[number]) for number in range(self.n)]
        return {**self.head, "object": self.kind, "choices": choices, "usage": self._tokens()}

    def chunks(self, event: Event) -> list[bytes]:
        """Return what a stream sends at an event, and at its end."""
        if not isinstance(event, Wrote | Ended):
            return []
        number, completion = event.choice, event.completion if isinstance(event, Ended) else None
        text = completion.text if completion else event.text  # type: ignore[union-attr]
        new = text[len(self.sent.get(number, "")) :]
        first = number not in self.sent
        if not (new or completion):
            return []
        self.sent[number] = self.sent.get(number, "") + new
        line = self._chunk(number, new, first, completion)
        return [line, *(self._last() if self.whole else [])]

    def _chunk(self, number: int, new: str, first: bool, completion: Completion | None) -> bytes:
        choice: Json = {"index": number, "logprobs": None,
                        "finish_reason": completion.finish if completion else None}  # fmt: skip
        if self.chat:
            choice["delta"] = {**({"role": "assistant"} if first else {}), "content": new}
            choice["logprobs"] = self._logprobs(completion) if completion else None
        else:
            choice["text"] = new
        return self._line(choice)

    def _line(self, choice: Json) -> bytes:
        return self._event({"choices": [choice], **({"usage": None} if self.usage else {})})

    def _last(self) -> list[bytes]:
        usage = [self._event({"choices": [], "usage": self._tokens()})] if self.usage else []
        return [*usage, b"data: [DONE]\n\n"]

    def _event(self, more: Json) -> bytes:
        kind = self.kind + (".chunk" if self.chat else "")
        return event_line({**self.head, "object": kind, **more})

    def _choice(self, number: int, completion: Completion) -> Json:
        about: Json = {"index": number, "finish_reason": completion.finish,
                       "logprobs": self._logprobs(completion)}  # fmt: skip
        if self.chat:
            return {**about, "message": {"role": "assistant", "content": completion.text}}
        return {**about, "text": completion.text}

    def _logprobs(self, completion: Completion) -> Json | None:
        if self.tokenizer is None:
            return None
        pairs = zip(completion.ids.tolist(), completion.logprobs.tolist(), strict=True)
        spelled = [(self.tokenizer.decode([number]), value) for number, value in pairs]
        return {"content": [{"token": text, "logprob": value, "bytes": [*text.encode()],
                             "top_logprobs": []} for text, value in spelled]}  # fmt: skip

    def _tokens(self) -> Json:
        new = sum(len(completion.ids) for completion in self.ended.values())
        thinking = sum(completion.thinking for completion in self.ended.values())
        details = {"completion_tokens_details": {"reasoning_tokens": thinking}} if thinking else {}
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": new,
                "total_tokens": self.prompt_tokens + new, **details}  # fmt: skip
