"""Rows of columns -> drafts: messages, the media they use, and what of the row is unused."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omni.processing.asking import ASK_TRANSCRIPT
from omni.processing.messages import Message, system

from ...shards.sample import Sample
from ..base import Build
from ..questions import ASK_CAPTION, ASK_CATEGORY
from .answers import one_of, plain
from .convert import RowError
from .encoding import readable
from .fields import Fields, empty, unread
from .places import MEDIA, Places
from .tools import offered
from .turns import MARKS, Slots, conversation

CONVERSATIONS = ("messages", "conversations", "conversation", "texts")
ASK_VIDEO = "Describe the video briefly."
CAPTIONS = ("txt", "caption", "text", "transcription", "transcript", "sentence")
REPLIES = ("answer", "multiple_choice_answer", "answers")
NAMES = ("label",)  # of classes; their question is another
QUESTION = "question"
ALL_BUT_ONE = "(all but the most frequent)"


@dataclass(frozen=True)
class Draft:
    """A sample but for its media: parts of messages hold numbers of `media`, (kind, value).

    `unused` names what the row has and the messages do not.
    """

    messages: list[Message]
    media: list[tuple[str, Any]]
    unused: tuple[str, ...] = ()
    chosen: list[Message] | None = None
    rejected: list[Message] | None = None

    def sample(self, places: Places, meta: dict[str, Any]) -> Sample:
        """Read and decode the media.

        Raises:
            RowError, MediaError, OSError: one cannot be had, or is not what it is said to be.
        """
        found, parts = places.attach(self.media)
        pair = (self.chosen, self.rejected)
        chosen, rejected = (None if m is None else _filled(m, parts) for m in pair)
        messages = _filled(self.messages, parts)
        return Sample(messages, found.parts, meta, chosen=chosen, rejected=rejected)


def listed(drafted: Callable[[], Draft], places: Places, build: Build) -> tuple[str, ...]:
    """Count what a row has and its draft does not use; return what its media are known by.

    A row without a draft has none: it is named when its sample is made.
    """
    try:
        found = drafted()
    except RowError:
        return ()
    build.unused(*found.unused)
    return places.names([value for _, value in found.media])


def _filled(messages: list[Message], parts: Sequence[str]) -> list[Message]:
    """Put part names in place of numbers.

    Raises:
        RowError: a text was not in the encoding of its file.
    """
    for message in messages:
        for part in message["content"]:
            if part["type"] == "text":
                readable(part["text"])
    return [
        m | {"content": [
            p if p["type"] == "text" else p | {p["type"]: parts[p[p["type"]]]}
            for p in m["content"]
        ]}
        for m in messages
    ]  # fmt: skip


def opened(row: Mapping[str, Any]) -> Fields:
    """Return a row as fields; a conversation that is JSON text is what the text says."""
    opened = dict(row)
    for name in CONVERSATIONS:
        value = row.get(name)
        if isinstance(value, str) and value.lstrip().startswith("["):
            try:
                opened[name] = json.loads(value)
            except ValueError:
                continue  # a text that begins so
    fields = Fields(opened)
    fields.read.add("id")  # goes into the meta of the sample
    return fields


def media_of(
    row: Fields, columns: Mapping[str, Iterable[str]] = MEDIA, all_of: bool = False
) -> list[tuple[str, Any]]:
    """Return (kind, value) of the media in a row's columns, by default the first of a kind."""
    found: list[tuple[str, Any]] = []
    for kind, names in columns.items():
        cells = [row.get(name) for name in names] if all_of else [row.first(*names)]
        for cell in cells:
            values = cell if isinstance(cell, list) else [cell]
            found += [(kind, _bare(value)) for value in values if not empty(value)]
    return found


def _bare(value: Any) -> Any:
    """Return a cell that is an object as one whose keys are all known to be read."""
    return {key: value[key] for key in value} if isinstance(value, Fields) else value


def draft(
    row: Fields, media: Sequence[tuple[str, Any]], question: str = "", answer: str = ""
) -> Draft:
    """Return the draft of a row: of its conversation, else of its question and its answer.

    Args:
        row: what `opened` returned.
        media: what is shown, as `media_of` returns it.
        question: a column, or else the text to ask; by default what fits the media.
        answer: a column; by default, conversations go before all else, then what answers a
            question if there is one, then captions, then the name of a class.

    Raises:
        RowError: there is no text, or it does not fit the media.
    """
    slots, more = Slots(media), []
    turns = None if answer else next(
        (row[name] for name in CONVERSATIONS if _is_conversation(dict.get(row, name))), None
    )  # fmt: skip
    if turns is None:
        turns, more = _asked(row, slots, question, answer)
    messages = with_system(row, conversation(turns, slots))
    return Draft(messages, slots.media, (*unread(row), *more))


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(t, dict) for t in value)


def _asked(row: Fields, slots: Slots, question: str, answer: str) -> tuple[list[Any], list[str]]:
    """Return a question and an answer as turns, and the names of what is left out."""
    asked = plain(row.get(question, question) if question else row.get(QUESTION))
    order = (*REPLIES, *CAPTIONS, *NAMES) if asked else (*CAPTIONS, *REPLIES, *NAMES)
    names = (answer,) if answer else order
    name = next((name for name in names if _says(row, name, bool(answer))), None)
    if name is None:
        have = (answer,) if answer else (*CONVERSATIONS, *names)
        raise RowError(f"no text under {', '.join(have)!r}")
    text, others = one_of(row[name])
    if not slots.media and not asked:
        raise RowError("there are neither media nor a question")
    bare = asked or ""
    for mark in MARKS:
        bare = bare.replace(mark, "")
    if not bare.strip():
        meant = ASK_CATEGORY[0] if name in NAMES and not answer else ask(slots.kinds)
        asked = f"{asked}\n{meant}" if asked else meant
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": text}]
    return turns, [f"{name} {ALL_BUT_ONE}"] if others else []


def _says(row: Fields, name: str, meant: bool) -> bool:
    """Return whether a column has an answer; the number of a class is one only where meant."""
    value = dict.get(row, name)
    if name in NAMES and not meant and not isinstance(value, str):
        return False
    return one_of(value)[0] is not None


def ask(kinds: set[str]) -> str:
    """Return the question that is meant where a row has media of these kinds and a caption."""
    if kinds == {"audio"}:
        return ASK_TRANSCRIPT
    return ASK_VIDEO if "video" in kinds else ASK_CAPTION[2]


def with_system(row: Fields, messages: list[Message]) -> list[Message]:
    """Put a row's own system prompt, and the tools that it offers, before a conversation.

    Raises:
        RowError: the conversation begins with another system prompt.
    """
    prompt = plain(row.first("system", "system_prompt"))
    tools = row.first("tools")
    if messages[0]["role"] == "system":
        first = "".join(part.get("text", "") for part in messages[0]["content"])
        if prompt and prompt.strip() != first.strip():
            raise RowError("there are two system prompts: the row's and the conversation's")
        prompt, messages = first, messages[1:]
    texts = [text for text in (prompt, offered(tools) if tools else None) if text]
    return [system("\n\n".join(texts)), *messages] if texts else messages
