"""Conversations as users' files write them -> messages."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from omni.processing.messages import SAMPLING, Message

from .answers import plain
from .attachments import PREFIX
from .convert import RowError
from .fields import Fields
from .places import ENCODED, embedded
from .tools import CALL, RESPONSE, between, called

ROLES = {
    **{role: role for role in ("system", "user", "assistant")},
    **{"human": "user", "gpt": "assistant", "model": "assistant", "developer": "system"},
    **dict.fromkeys(("function_call", "tool_call"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "tool_response", "ipython"), "user"),
}
TAGS = {
    **dict.fromkeys(("function_call", "tool_call"), CALL),
    **dict.fromkeys(("tool", "function", "observation", "tool_response", "ipython"), RESPONSE),
}
# types of parts -> kind; some have the file under a key of another name
TYPES = {
    **{kind: kind for kind in PREFIX},
    **{f"{kind}_url": kind for kind in PREFIX},
    **{f"input_{kind}": kind for kind in PREFIX},
}
TEXT_TYPES = ("text", "input_text", "output_text")
MARKS = {f"<{kind}>": kind for kind in PREFIX}


class Slots:
    """The media of a row while its messages are made: a part holds the number of its medium."""

    def __init__(self, media: Sequence[tuple[str, Any]] = ()):
        self.media = list(media)
        self._listed = len(self.media)
        self._left = list(range(self._listed))

    @property
    def kinds(self) -> set[str]:
        """Return the kinds that marks in a text may mean."""
        return {kind for kind, _ in self.media[: self._listed]}

    def part(self, kind: str, given: Any = None, index: Any = None) -> dict[str, Any]:
        """Return the part for a medium: the one given, that with an index, or the next.

        Raises:
            RowError: there is none.
        """
        number = self._number(kind, given, index)
        if number in self._left:
            self._left.remove(number)
        return {"type": kind, kind: number}

    def _number(self, kind: str, given: Any, index: Any) -> int:
        mine = [n for n, (other, _) in enumerate(self.media[: self._listed]) if other == kind]
        if isinstance(index, int):
            if not 0 <= index < len(mine):
                raise RowError(f"a part wants {kind} {index} of the row's {len(mine)}")
            return mine[index]
        left = [n for n in mine if n in self._left]
        if given is not None:
            same = [n for n, (other, value) in enumerate(self.media)
                    if other == kind and _same(given, value)]  # fmt: skip
            if same:
                return same[0]
            # a part that names a file while files of its kind are listed may not name it in full
            if not left or not isinstance(given, str):
                self.media.append((kind, given))
                return len(self.media) - 1
        if not left:
            raise RowError(f"more <{kind}> marks than the {len(mine)} {kind} files of the row")
        return left[0]

    def unmarked(self) -> list[dict[str, Any]]:
        """Return parts for media of kinds that had no mark at all.

        Raises:
            RowError: some of a kind were marked and others not.
        """
        rest = [(self.media[n][0], n) for n in self._left]
        for kind, _ in rest:
            count = sum(kind == other for other, _ in self.media[: self._listed])
            if used := count - sum(kind == other for other, _ in rest):
                raise RowError(f"{used} <{kind}> marks for {count} {kind} files")
        return [{"type": kind, kind: number} for kind, number in rest]


def _same(given: Any, value: Any) -> bool:
    """Return whether two cells hold or name the same file."""
    try:
        return given == value or "" != embedded(given)[1] == embedded(value)[1]
    except RowError:  # named when the sample is made
        return False


def conversation(turns: Any, slots: Slots, closed: bool = True) -> list[Message]:
    """Turn ShareGPT's {from, value} or chat {role, content} turns into messages.

    Media are put where marks such as `<image>` in a user's text or media parts stand, in order;
    where there is no mark of their kind, before the first question, which is what such sets
    mean. Marks of kinds that the row does not have are text.

    Args:
        turns: list of turns; content is a text or a list of parts.
        slots: the row's media; all have to be used.
        closed: the last message must be an answer.

    Raises:
        RowError: says which turn is wrong, or that marks and media do not match.
    """
    if not isinstance(turns, list) or not turns or not all(isinstance(t, dict) for t in turns):
        raise RowError("a conversation must be a list of {from, value} or {role, content}")
    if all(turn.keys() >= {"user", "assistant"} for turn in turns):  # questions with answers
        pairs = [(turn, role) for turn in turns for role in ("user", "assistant")]
        turns = [{"role": role, "content": turn[role]} for turn, role in pairs]
    marks = _marks(turns, slots.kinds)
    messages: list[Message] = []
    for turn in turns:
        message, tool = _message(turn, marks, slots)
        if tool and messages and messages[-1]["role"] == message["role"]:
            messages[-1]["content"] += [{"type": "text", "text": "\n"}, *message["content"]]
        else:
            messages.append(message)
    if rest := slots.unmarked():
        first = next((m for m in messages if m["role"] == "user"), None)
        if first is None:
            raise RowError("there is no question to put the media in")
        first["content"][:0] = rest
    if closed and messages[-1]["role"] != "assistant":
        raise RowError("the conversation does not end with an answer")
    return messages


def _marks(turns: list[dict[str, Any]], kinds: set[str]) -> dict[str, str]:
    """Return which marks count; sets of videos alone often write `<image>` for one."""
    marks = {mark: kind for mark, kind in MARKS.items() if kind in kinds}
    if kinds == {"video"} and "<video>" not in json.dumps(turns, default=str):
        marks["<image>"] = "video"
    return marks


def _message(turn: dict[str, Any], marks: Mapping[str, str], slots: Slots) -> tuple[Message, bool]:
    """Return a turn as a message, and whether it is one of a tool."""
    speaker = turn.get("role") or turn.get("from")
    if not isinstance(speaker, str) or speaker not in ROLES:
        raise RowError(f"unknown speaker {speaker!r}; use one of {', '.join(ROLES)}")
    role = ROLES[speaker]
    value = turn.get("content") if turn.get("content") is not None else turn.get("value")
    calls = called(turn.get("tool_calls")) if turn.get("tool_calls") else []
    if not isinstance(value, list):
        text = plain(value)
        if text is None and not calls and not isinstance(value, str):
            raise RowError("every turn needs a text under 'value' or 'content'")
        value = [text] if text else []  # a question may be a medium alone
    parts: list[dict[str, Any]] = []
    for piece in value:
        parts += _parts(piece, marks if role == "user" and speaker not in TAGS else {}, slots)
    if speaker in TAGS:
        text = "".join(part.get("text", "") for part in parts)
        media = [part for part in parts if part["type"] != "text"]
        parts = [*media, {"type": "text", "text": between(TAGS[speaker], text)}]
    for call in calls:
        parts.append({"type": "text", "text": f"\n{call}" if parts else call})
    return {"role": role, "content": parts}, speaker in TAGS


def _parts(piece: Any, marks: Mapping[str, str], slots: Slots) -> list[dict[str, Any]]:
    """Return the parts that a piece of a turn's content stands for."""
    if isinstance(piece, str):
        return _marked(piece, marks, slots)
    if not isinstance(piece, dict):
        raise RowError(f"a turn holds a part {piece!r}; use text, {', '.join(PREFIX)}")
    kind = piece.get("type")
    if kind in TYPES:
        given = _given(piece, str(kind))
        part = slots.part(TYPES[kind], given, piece.get("index"))
        shown = {name: piece[name] for name in SAMPLING if name in piece}
        return [part | {name: value for name, value in shown.items() if value is not None}]
    text = plain(piece.get("text"))
    if text is None or (kind is not None and kind not in TEXT_TYPES):
        raise RowError(f"a turn holds a part of type {kind!r}; use text, {', '.join(PREFIX)}")
    return _marked(text, marks, slots)


def _given(piece: dict[str, Any], type_: str) -> Any:
    """Return the file that a media part names or holds, if it does."""
    kind = TYPES[type_]
    names = (type_, kind, f"{kind}_url", *ENCODED)
    name = next((name for name in names if dict.get(piece, name)), None)
    value = piece[name] if name else None
    if isinstance(value, Fields):
        return {key: value[key] for key in ("bytes", *ENCODED) if key in value}
    return value


def _marked(text: str, marks: Mapping[str, str], slots: Slots) -> list[dict[str, Any]]:
    """Return a text with media in place of its marks; blanks beside a mark belong to it."""
    bits = re.split("(" + "|".join(marks) + ")", text) if marks else [text]
    parts: list[dict[str, Any]] = []
    for number, bit in enumerate(bits):
        if number % 2:
            parts.append(slots.part(marks[bit]))
            continue
        if number:  # after a mark: its line ends, but what the next line is indented by is text
            blank = len(bit) - len(bit.lstrip())
            bit = bit[bit.rfind("\n", 0, blank) + 1 :] if "\n" in bit[:blank] else bit[blank:]
        if number < len(bits) - 1:
            bit = bit.rstrip()
        if bit.strip():
            parts.append({"type": "text", "text": bit})
    return parts
