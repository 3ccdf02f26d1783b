"""Conversations as users' files write them -> messages."""

import re
from collections.abc import Mapping
from typing import Any

from omni.processing.messages import Message, assistant, user

from ..questions import ASK_CAPTION, ASK_TRANSCRIPT
from .attachments import PREFIX, Attachments
from .convert import RowError

ROLES = {
    **{"human": "user", "gpt": "assistant"},  # LLaVA
    **{role: role for role in ("system", "user", "assistant")},
}
MARKS = {f"<{kind}>": kind for kind in PREFIX}
_MARK = re.compile("(" + "|".join(MARKS) + ")")
CONVERSATIONS = ("messages", "conversations", "conversation", "texts")
ASK_VIDEO = "Describe the video briefly."
ANSWERS = ("txt", "caption", "text", "transcription", "transcript", "sentence", "answer")


def conversation(turns: Any, media: Attachments, closed: bool = True) -> list[Message]:
    """Turn LLaVA's {from, value} or chat {role, content} turns into messages.

    Media are put where marks such as `<image>` or media parts stand, in order; where there is
    no mark at all, before the first question, which is what such sets mean.

    Args:
        turns: list of turns; content is a text or a list of parts.
        media: all of it has to be used.
        closed: the last message must be an answer.

    Raises:
        RowError: says which turn is wrong, or that marks and media do not match.
    """
    if not isinstance(turns, list) or not turns or not all(isinstance(t, dict) for t in turns):
        raise RowError("a conversation must be a list of {from, value} or {role, content}")
    if all(turn.keys() >= {"user", "assistant"} for turn in turns):  # questions with answers
        roles = ("user", "assistant")
        turns = [{"role": role, "content": turn[role]} for turn in turns for role in roles]
    left = list(media.refs)
    messages = [_message(turn, media, left) for turn in turns]
    if left == media.refs and left:
        first = next((m for m in messages if m["role"] == "user"), None)
        if first is None:
            raise RowError("there is no question to put the media in")
        first["content"][:0] = [{"type": kind, kind: ref} for kind, ref in left]
    elif left:
        kind, count = left[0][0], sum(kind == left[0][0] for kind, _ in media.refs)
        used = count - sum(other == kind for other, _ in left)
        raise RowError(f"{used} <{kind}> marks for {count} {kind} files")
    if closed and messages[-1]["role"] != "assistant":
        raise RowError("the conversation does not end with an answer")
    return messages


def _message(turn: dict[str, Any], media: Attachments, left: list[tuple[str, str]]) -> Message:
    speaker = turn.get("role") or turn.get("from")
    if speaker not in ROLES:
        raise RowError(f"unknown speaker {speaker!r}; use one of {', '.join(ROLES)}")
    value = turn.get("content") if turn.get("content") is not None else turn.get("value")
    parts: list[dict[str, Any]] = []
    for piece in [value] if isinstance(value, str) else _listed(value):
        kind = piece if isinstance(piece, str) else piece.get("type")
        if kind in PREFIX and not isinstance(piece, str):
            parts.append(_medium(kind, piece.get(kind), media, left))
            continue
        text = piece if isinstance(piece, str) else piece.get("text")
        if not isinstance(text, str):
            raise RowError(f"a turn holds a part of type {kind!r}; use text, {', '.join(PREFIX)}")
        for bit in _MARK.split(text):
            if bit in MARKS:
                parts.append(_medium(MARKS[bit], None, media, left))
            elif bit.strip():
                parts.append({"type": "text", "text": bit.strip()})
    return {"role": ROLES[speaker], "content": parts}


def _listed(value: Any) -> list[Any]:
    if isinstance(value, list) and all(isinstance(piece, dict | str) for piece in value):
        return value
    raise RowError("every turn needs a text under 'value' or 'content'")


def _medium(
    kind: str, name: Any, media: Attachments, left: list[tuple[str, str]]
) -> dict[str, Any]:
    """Return the media part for a mark: the file it names, else the next one of its kind."""
    if isinstance(name, str) and name in media.names:
        ref = media.names[name]
    else:
        ref = next((ref for other, ref in left if other == kind), None)
    if ref is None:
        count = sum(other == kind for other, _ in media.refs)
        raise RowError(f"more <{kind}> marks than the {count} {kind} files of the row")
    if (kind, ref) in left:
        left.remove((kind, ref))
    return {"type": kind, kind: ref}


def ask(media: Attachments) -> str:
    """Return the question that is meant where a row has media and a caption only."""
    kinds = {kind for kind, _ in media.refs}
    if kinds == {"audio"}:
        return ASK_TRANSCRIPT
    return ASK_VIDEO if "video" in kinds else ASK_CAPTION[2]


def described(
    row: Mapping[str, Any], media: Attachments, question: str = "", answer: str = ""
) -> list[Message]:
    """Return the messages of a row of columns.

    Args:
        row: column -> value; a conversation in one of CONVERSATIONS goes before all else.
        media: all of it comes before the question.
        question: a column, or else the text to ask; by default what fits the media.
        answer: a column; by default the first of ANSWERS that is there. Of several captions
            in a list the first is taken.
    """
    if not answer:
        for name in CONVERSATIONS:
            if isinstance(row.get(name), list):
                return conversation(row[name], media)
    name = answer or next((name for name in ANSWERS if row.get(name)), "")
    value = row.get(name)
    if isinstance(value, list):
        value = next((text for text in value if text), None)
    if not isinstance(value, str) or not value.strip():
        raise RowError(f"no text under {name or ', '.join((*CONVERSATIONS, *ANSWERS))!r}")
    asked = row.get(question, question) if question else row.get("question")
    if not media.refs and not asked:
        raise RowError("there are neither media nor a question")
    shown = [{"type": kind, kind: ref} for kind, ref in media.refs]
    asked = _MARK.sub("", str(asked or "")).strip() or ask(media)
    return [user(*shown, asked), assistant(value.strip())]
