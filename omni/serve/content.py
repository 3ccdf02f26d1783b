"""The messages of a chat request -> our messages, whose media are bytes."""

from dataclasses import dataclass, field
from typing import Any

from ..processing.messages import Message
from .fields import Fields, check_text
from .limits import RequestLimits
from .refusal import RequestError, short
from .sources import Sources

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
URLS = {"image_url": "image", "audio_url": "audio", "video_url": "video"}
TYPES = ("text", "input_audio", *URLS)
FORMATS = ("wav", "mp3", "flac", "ogg", "opus", "m4a", "aac", "webm")  # a decoder looks itself


@dataclass
class Content:
    """Messages, and where each of their media stood in the request, in reading order.

    `place` is where all of it stood.
    """

    messages: list[Message] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    parts: int = 0
    characters: int = 0
    place: str = "messages"


def read_messages(given: list[Any], limits: RequestLimits, sources: Sources) -> Content:
    """Check and read all messages.

    Raises:
        RequestError: names the message or part, what is wrong with it, and what is allowed.
    """
    if not given:
        raise RequestError("must hold a message", "messages")
    if len(given) > limits.max_messages:
        raise RequestError(f"{len(given):,} messages is over the limit of {limits.max_messages}",
                           "messages")  # fmt: skip
    content = Content()
    for number, message in enumerate(given):
        _read_message(content, message, number, limits, sources)
    last = len(given) - 1
    if content.messages[-1]["role"] != "user":
        raise RequestError("the last message must be the user's", f"messages[{last}].role")
    return content


def _read_message(
    content: Content, given: Any, number: int, limits: RequestLimits, sources: Sources
) -> None:
    fields = Fields(given, f"messages[{number}]")
    role = fields.take("role", str)
    if role not in ROLES:
        raise RequestError(f"must be one of {', '.join(ROLES)}, not {short(role)}",
                           fields.at("role"))  # fmt: skip
    if ROLES[role] == "system" and number:
        raise RequestError("a system message can only come first", fields.at("role"))
    parts = fields.take("content", str, list)
    if role == "assistant":  # what an answer of OpenAI's own has besides, where it is empty
        fields.allow(refusal=("",), annotations=([],), tool_calls=([],))
    fields.close()
    if isinstance(parts, str):
        found = [_text(content, parts, fields.at("content"), limits)]
    elif not parts:
        raise RequestError("must hold a part", fields.at("content"))
    else:
        found = [_read_part(content, part, ROLES[role], f"{fields.at('content')}[{n}]", limits,
                            sources) for n, part in enumerate(parts)]  # fmt: skip
    content.messages.append({"role": ROLES[role], "content": found})


def _read_part(
    content: Content, given: Any, role: str, place: str, limits: RequestLimits, sources: Sources
) -> dict[str, Any]:
    fields = Fields(given, place)
    kind = fields.take("type", str)
    if kind not in TYPES:
        raise RequestError(f"unknown part type {short(kind)}; there are {', '.join(TYPES)}", place)
    content.parts += 1
    if content.parts > limits.max_parts:
        raise RequestError(f"more parts than the limit of {limits.max_parts} in a request", place)
    if kind == "text":
        text = fields.take("text", str)
        fields.close()
        return _text(content, text, place, limits)
    inner = Fields(fields.take(kind, dict), fields.at(kind))
    fields.close()
    if role != "user":
        raise RequestError(f"a message of the {role} holds text only, not {kind}", place)
    if len(content.places) == limits.max_media:
        raise RequestError(f"more media than the limit of {limits.max_media} in a request", place)
    content.places.append(place)
    medium = URLS.get(kind, "audio")
    return {"type": medium, medium: _bytes(inner, kind, medium, place, sources)}


def _bytes(inner: Fields, kind: str, medium: str, place: str, sources: Sources) -> bytes:
    if kind == "input_audio":
        data, form = inner.take("data", str), inner.take("format", str)
        if form not in FORMATS:
            raise RequestError(f"must be one of {', '.join(FORMATS)}, not {short(form)}",
                               inner.at("format"))  # fmt: skip
        inner.close()
        return sources.decode(data, place)
    url = inner.take("url", str)
    if kind == "image_url":
        inner.allow(detail=("auto",))
    inner.close()
    return sources.read(url, medium, place)


def _text(content: Content, text: str, place: str, limits: RequestLimits) -> dict[str, Any]:
    content.characters += len(check_text(text, place))
    if content.characters > limits.max_characters:
        raise RequestError(
            f"more text than the limit of {limits.max_characters:,} characters in a request", place
        )
    return {"type": "text", "text": text}
