"""The one conversation type: HF chat messages whose content is a list of parts."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

Message = dict[str, Any]
ROLES = ("system", "user", "assistant")
MEDIA = ("image", "audio", "video")
TYPES = ("text", *MEDIA)  # of parts
SAMPLING = ("fps", "max_frames", "sound")  # what a video part may say of how it is shown
SHOWING = (*SAMPLING, "max_tokens")  # and what a processor may


class MessageError(ValueError):
    """A conversation that breaks the contract; the text says which message and how to mend it."""


def image(ref: Any) -> dict[str, Any]:
    """Make an image part; `ref` is a file name, path, bytes or PIL image."""
    return {"type": "image", "image": ref}


def audio(ref: Any) -> dict[str, Any]:
    """Make an audio part; `ref` is a file name, path, bytes or mono float array at 16 kHz."""
    return {"type": "audio", "audio": ref}


def video(ref: Any, **sampling: float) -> dict[str, Any]:
    """Make a video part; `ref` is a file name, path or bytes.

    Args:
        ref: the file.
        sampling: `fps`, frames shown per second, `max_frames`, shown in all, and `sound`, whether
            it is heard; the processor's own where they are not given.
    """
    return {"type": "video", "video": ref, **sampling}


def _message(role: str, parts: tuple[Any, ...]) -> Message:
    content = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
    return {"role": role, "content": content}


def system(*parts: Any) -> Message:
    """Make a system message; a plain string is a text part."""
    return _message("system", parts)


def user(*parts: Any) -> Message:
    """Make a user message; a plain string is a text part."""
    return _message("user", parts)


def assistant(*parts: Any) -> Message:
    """Make an assistant message; a plain string is a text part, audio what it says."""
    return _message("assistant", parts)


def media_refs(messages: list[Message]) -> Iterator[tuple[str, Any]]:
    """Yield (kind, ref) of every media part in reading order."""
    for message in messages:
        for part in message["content"]:
            if part["type"] != "text":
                yield part["type"], part[part["type"]]


def validate(messages: Any, parts: Collection[str] | None = None) -> None:
    """Check roles, parts and, when `parts` is given, that each media part names one of them.

    Raises:
        MessageError: names the message, what is wrong with it and what is allowed.
    """
    if not isinstance(messages, list) or not messages:
        raise MessageError("a conversation is a non-empty list of messages")
    for i, message in enumerate(messages):
        try:
            _validate_message(message, i)
        except MessageError as error:
            raise MessageError(f"message {i}: {error}") from None
        for j, part in enumerate(message["content"]):
            try:
                _validate_part(part, message["role"], parts)
            except MessageError as error:
                raise MessageError(f"message {i}, part {j}: {error}") from None


def _validate_message(message: Any, number: int) -> None:
    if not isinstance(message, dict) or "role" not in message or "content" not in message:
        raise MessageError("needs the keys 'role' and 'content'")
    if message["role"] not in ROLES:
        raise MessageError(f"unknown role {message['role']!r}; use one of {ROLES}")
    if message["role"] == "system" and number:
        raise MessageError("a system message can only come first")
    if not isinstance(message["content"], list) or not message["content"]:
        raise MessageError("content must be a non-empty list of parts")


def _validate_part(part: Any, role: str, parts: Collection[str] | None) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in TYPES:
        raise MessageError(f"unknown part type {kind!r}; use text, image, audio or video")
    if kind not in part:
        raise MessageError(f"a part of type {kind!r} needs the key {kind!r}")
    if kind == "text":
        if not isinstance(part["text"], str):
            raise MessageError("text must be a string")
    elif role == "assistant" and kind != "audio":
        raise MessageError(f"an assistant message holds text and audio only, not {kind}")
    elif parts is not None and part[kind] not in parts:
        have = ", ".join(sorted(parts)) or "none"
        raise MessageError(f"names the file {part[kind]!r}; the sample has: {have}")
    if kind == "video":
        check_video({k: v for k, v in part.items() if k not in ("type", "video")})


def check_video(options: dict[str, Any], known: Collection[str] = SAMPLING) -> None:
    """Make sure that options of how a video is shown can be.

    Raises:
        MessageError: one is none of the `known`, or has no such value.
    """
    if unknown := set(options) - {*known}:
        raise MessageError(f"a video takes {', '.join(known)}, not {min(unknown)!r}")
    fps = options.get("fps", 1)
    if type(fps) not in (int, float) or not 0 < fps <= 1000:
        raise MessageError(f"fps must be a number above 0, not {fps!r}")
    for name, most in (("max_frames", 65_535), ("max_tokens", 2**31)):
        number = options.get(name, 1)
        if type(number) is not int or not 1 <= number <= most:
            raise MessageError(f"{name} must be a whole number from 1, not {number!r}")
    if type(sound := options.get("sound", True)) is not bool:
        raise MessageError(f"sound must be true or false, not {sound!r}")


def bind(messages: list[Message], parts: Mapping[str, bytes]) -> list[Message]:
    """Copy the messages with every media file name replaced by that part's bytes.

    Raises:
        MessageError: see `validate`.
    """
    validate(messages, parts)
    return fill(messages, parts)


def fill(messages: list[Message], parts: Mapping[str, bytes]) -> list[Message]:
    """Do what `bind` does for messages that were validated with these parts already."""
    return [
        {
            "role": m["role"],
            "content": [
                p if p["type"] == "text" else {**p, p["type"]: parts[p[p["type"]]]}
                for p in m["content"]
            ],
        }
        for m in messages
    ]
