"""What a decoder may spend on one file, and the error of what cannot be decoded within it."""

import re
from dataclasses import dataclass
from pathlib import Path


class MediaError(ValueError):
    """Media that cannot be decoded within the limits."""


@dataclass(frozen=True)
class Limits:
    """What a decoder may spend on one file; larger media is an error, never cut silently."""

    max_bytes: int = 64 << 20
    max_pixels: int = 50_000_000
    max_aspect: float = 200.0
    max_seconds: float = 300.0


LIMITS = Limits()


def read_limited(source: bytes | str | Path, limits: Limits) -> bytes:
    """Return the bytes of a file, or those given; raises MediaError over `limits.max_bytes`."""
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.is_file():
            raise MediaError(f"{path}: no such file")
        check_size(path.stat().st_size, limits)
        source = path.read_bytes()
    check_size(len(source), limits)
    return source


def check_size(size: int, limits: Limits) -> None:
    """Raise MediaError unless a file of `size` bytes may be decoded."""
    if not size:
        raise MediaError("the file is empty")
    if size > limits.max_bytes:
        raise MediaError(f"{size:,} bytes is over the limit of {limits.max_bytes:,}")


def check_seconds(seconds: float, limits: Limits) -> None:
    """Raise MediaError unless sound of this length may be decoded."""
    if seconds > limits.max_seconds:
        raise MediaError(f"{seconds:.0f} s of audio is over the limit of {limits.max_seconds:g} s")


def reason_of(error: Exception) -> str:
    """Drop the in-memory file's address from a decoder's message."""
    return re.sub(r"<_io\.BytesIO object at 0x[0-9a-f]+>", "the data", str(error))
