"""A visitor's conversation: what was asked, what there is of the answers, how both are shown."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...generation.thinking import TAGS, find_thinking, without_thinking
from ...media.kind import kind_by_content
from ...media.limits import Limits, read_limited
from ...processing.messages import Message, assistant, user
from ..content import Content
from ..limits import RequestLimits
from ..refusal import RequestError
from .answerer import Answer, Stop

_TAGS = re.compile("|".join(map(re.escape, TAGS)), re.IGNORECASE)


@dataclass
class Turn:
    """A question and its answer.

    Args:
        text: of the question.
        files: its media.
        expected: the answer that an example has in the data.
        tries: how often it was answered before.
    """

    text: str
    files: list[Path] = field(default_factory=list)
    expected: str = ""
    tries: int = 0
    answer: Answer = field(default_factory=Answer)
    sound: Path | None = None  # of the answer

    @property
    def note(self) -> str:
        """What is shown below the answer."""
        expected = f"expected: {self.expected}" if self.expected else ""
        return "\n".join(filter(None, (self.answer.note, expected)))


@dataclass
class Talk:
    """All turns of one visitor, and what stops the one being answered."""

    turns: list[Turn] = field(default_factory=list)
    stop: Stop | None = None

    def content(self, limits: RequestLimits) -> Content:
        """Return the conversation up to the last question; failed turns are no part of it.

        Raises:
            RequestError: names the file that is no medium or too large, or the limit.
        """
        content = Content()
        for turn in self.turns[:-1]:
            if turn.answer.text and not turn.answer.problem:
                content.messages += [self._question(turn, content, limits),
                                     assistant(without_thinking(turn.answer.text))]  # fmt: skip
        content.messages.append(self._question(self.turns[-1], content, limits))
        content.characters = sum(len(turn.text) for turn in self.turns)
        for what, count, most in (
            ("files", len(content.places), limits.max_media),
            ("characters", content.characters, limits.max_characters),
            ("messages", len(content.messages), limits.max_messages),
        ):
            if count > most:
                raise RequestError(
                    f"{count:,} {what} are over a conversation's limit of {most:,}; clear it first"
                )
        return content

    def _question(self, turn: Turn, content: Content, limits: RequestLimits) -> Message:
        parts = []
        for path in turn.files:
            data = _read(path, limits)
            kind = kind_by_content(data)
            if kind is None:
                raise RequestError("neither a picture nor sound nor video", path.name)
            parts.append({"type": kind, kind: data})
            content.places.append(path.name)
        return user(*parts, *([turn.text] if turn.text else []))

    def shown(self, notes: bool = True) -> list[dict[str, Any]]:
        """Return the messages of the page; a turn is one of the visitor, and those of the model.

        `notes`, such as tokens and seconds, may be left out where they would say who answered.
        """
        found: list[dict[str, Any]] = []
        for turn in self.turns:
            files = [{"path": str(path), "alt_text": path.name} for path in turn.files]
            found.append({"role": "user", "content": [*files, *([turn.text] if turn.text else [])]})
            found += _answered(turn, notes)
        return found


def _read(path: Path, limits: RequestLimits) -> bytes:
    try:
        return read_limited(path, Limits(max_bytes=limits.max_bytes))
    except (ValueError, OSError) as error:
        raise RequestError(str(error), path.name) from error


def _answered(turn: Turn, notes: bool) -> list[dict[str, Any]]:
    found, text = turn.answer, turn.answer.text
    messages: list[dict[str, Any]] = []
    if spans := find_thinking(text).spans:
        thought = _TAGS.sub("", "\n".join(text[start:end] for start, end in spans)).strip()
        text = without_thinking(text)
        messages.append(
            {"role": "assistant", "content": thought, "metadata": {"title": "thinking"}}
        )
    content: list[Any] = [text] if text else []
    if turn.sound:
        content.append({"path": str(turn.sound), "alt_text": "the answer, spoken"})
    if found.problem:
        content.append(f"{'Stopped' if text else 'No answer'}: {found.problem}")
    elif not text and not messages:
        content.append("(an empty answer)" if found.whole else "…")
    return [*messages, *map(_said, filter(None, (content, turn.note if notes else "")))]


def _said(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}
