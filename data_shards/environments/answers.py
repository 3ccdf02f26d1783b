"""What an answer says: fields of the json that prompts ask for, written well or nearly so."""

import json
import re
from typing import Any

LONGEST = 20_000  # characters of an answer
_OBJECT = re.compile(r"\{[^{}]*\}")


class Unread(ValueError):  # noqa: N818 - reads as what it is
    """An answer of another form than the prompt asks for; says how."""


def check_length(answer: str) -> None:
    """Raise Unread where the answer is too long to be read."""
    if len(answer) > LONGEST:
        raise Unread(f"the answer has {len(answer):,} characters, of {LONGEST:,} at most")


def last_object(answer: str, name: str) -> dict[str, Any]:
    """Return the last object of an answer that has a field of this name.

    An object may also be written as the templates of prompts are: with single quotes, words of a
    list without any, and a comma at its end. Then strings and lists of words are read, no more.

    Raises:
        Unread: there is none, or another one begins behind it and does not end: it was cut.
    """
    check_length(answer)
    found = [match for match in _OBJECT.finditer(answer) if name in match[0]]
    if not found:
        raise Unread(f'the answer has no whole {{...}} with "{name}"')
    if "{" in _OBJECT.sub("", answer[found[-1].end() :]):
        raise Unread("the answer was cut: its last { has no }")
    row = _fields(found[-1][0])
    if not isinstance(row.get(name), str):
        raise Unread(f'the answer\'s "{name}" is no string in quotes')
    return row


_NAME = r"""(["']?)(?P<name>[a-z ]+)\1\s*:\s*"""
_FIELD = re.compile(
    _NAME + r"""(?:(?P<quote>["'])(?P<text>.*?)(?P=quote)|\[(?P<list>[^\]]*)\])""", re.DOTALL
)


def _fields(text: str) -> dict[str, Any]:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {
            match["name"].strip(): _words(match["list"]) if match["text"] is None else match["text"]
            for match in _FIELD.finditer(text)
        }


def _words(items: str) -> list[str]:
    return [item.strip().strip("\"'").strip() for item in items.split(",")]
