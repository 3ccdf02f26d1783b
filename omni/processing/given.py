"""Media and messages as transformers passes them -> as `encode` takes them."""

import base64
from typing import Any

import numpy as np
import torch
from transformers.image_transforms import to_pil_image
from transformers.image_utils import load_image

from .messages import MEDIA, SAMPLING, Message, MessageError

_SOURCES = ("url", "path", "base64")  # keys of transformers' parts, beside the kind's own


def sampling_of(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that say which frames of a video are shown."""
    return {name: options[name] for name in SAMPLING if name in options}


def flat(kind: str, given: Any, counts: list[int]) -> list[Any]:
    """Return the media of one kind in reading order.

    Raises:
        MessageError: not as many as the texts have markers for.
    """
    if given is None:
        given = []
    elif not isinstance(given, list | tuple) or _is_wave(kind, given):
        given = [given]
    if any(isinstance(g, list | tuple) and not _is_wave(kind, g) for g in given):
        rows = [list(g) if isinstance(g, list | tuple) else [g] for g in given]
        found = [len(row) for row in rows]
    else:
        rows, found = [given], [len(given)]
        counts = [sum(counts)]
    if found != counts:
        raise MessageError(f"the texts have {counts} <|{kind}|>, for {found} {kind} passed")
    return [_reference(kind, ref) for row in rows for ref in row]


def _is_wave(kind: str, given: Any) -> bool:
    return kind == "audio" and len(given) > 0 and isinstance(given[0], int | float)


def _reference(kind: str, ref: Any) -> Any:
    """Return what `encode` takes: arrays and addresses as transformers has them are converted."""
    if isinstance(ref, str) and ref.startswith(("http://", "https://")):
        if kind != "image":
            raise MessageError(f"download {ref} first: a {kind} is read from a file or bytes")
        return load_image(ref)
    if kind == "video" and isinstance(ref, list | tuple | np.ndarray | torch.Tensor):
        raise MessageError("decoded frames have no times, which the model is shown: pass the file")
    if kind == "image" and isinstance(ref, np.ndarray | torch.Tensor):
        return to_pil_image(ref)
    if kind == "audio" and isinstance(ref, list | tuple | torch.Tensor):
        return np.asarray(ref, dtype=np.float32)
    return ref


def in_parts(message: Any, options: dict[str, Any]) -> Message:
    """Return a message as `messages.py` has it: content in parts, media under their kind."""
    content = message["content"] if isinstance(message, dict) and "content" in message else None
    if isinstance(content, str):
        return {**message, "content": [{"type": "text", "text": content}]}
    if not isinstance(content, list):
        return message
    return {**message, "content": [_part(part, options) for part in content]}


def _part(part: Any, options: dict[str, Any]) -> Any:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in MEDIA:
        return part
    part = dict(part)
    for source in _SOURCES:
        if source in part and kind not in part:
            ref = part.pop(source)
            part[kind] = base64.b64decode(ref) if source == "base64" else ref
    if kind in part:
        part[kind] = _reference(kind, part[kind])
    return {**sampling_of(options), **part} if kind == "video" else part
