"""What one request may ask for."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RequestLimits:
    """Bounds of a request; what goes beyond is refused with the bound's name and size."""

    max_body: int = 64 << 20  # bytes
    body_seconds: float = 30.0  # in which the body must be here
    max_messages: int = 256
    max_parts: int = 64  # of all messages
    max_media: int = 16  # of them
    max_characters: int = 1_000_000  # of all texts
    max_bytes: int = 32 << 20  # of one medium
    max_pixels: int = 20_000_000  # of one image
    max_seconds: float = 300.0  # of one sound or video
    max_new_tokens: int = 1024  # also where a request says nothing
    max_n: int = 8  # answers to a request
    deadline: float = 300.0  # seconds until an answer must be whole
    voices: Mapping[str, bytes] = field(default_factory=dict, hash=False, repr=False)
    """name -> a clip of it, that texts can be read out in"""
