"""Bytes -> arrays, under limits: a media file is hostile until it is decoded."""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image


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


def _read(source: bytes | str | Path, limits: Limits) -> bytes:
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.is_file():
            raise MediaError(f"{path}: no such file")
        source = path.read_bytes()
    if not source:
        raise MediaError("the file is empty")
    if len(source) > limits.max_bytes:
        raise MediaError(f"{len(source):,} bytes is over the limit of {limits.max_bytes:,}")
    return source


def load_image(source: Any, limits: Limits = LIMITS) -> Image.Image:
    """Decode to RGB; transparency is composited on white.

    Args:
        source: bytes, a path, or a PIL image.
        limits: size limits, checked from the header before a pixel is decoded.

    Raises:
        MediaError: not an image, truncated, or over a limit.
    """
    try:
        img = source
        if not isinstance(source, Image.Image):
            img = Image.open(io.BytesIO(_read(source, limits)))
        width, height = img.size
        if width * height > limits.max_pixels:
            raise MediaError(
                f"{width}x{height} pixels is over the limit of {limits.max_pixels:,} pixels"
            )
        if max(width, height) > limits.max_aspect * min(width, height):
            raise MediaError(
                f"{width}x{height} is too thin an image (limit 1:{limits.max_aspect:g})"
            )
        if img.mode in ("RGBA", "LA", "PA") or "transparency" in img.info:
            img = img.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", img.size, "white"), img).convert("RGB")
        return img.convert("RGB")
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(f"too many pixels: {error}") from error
    except (OSError, ValueError, SyntaxError, TypeError) as error:
        raise MediaError(f"not a readable image: {_reason(error)}") from error


def load_audio(source: Any, rate: int = 16_000, limits: Limits = LIMITS) -> np.ndarray:
    """Decode to mono float32 (samples,) at `rate` Hz.

    Args:
        source: bytes or a path of anything libsndfile reads, or a mono float array at `rate`.
        rate: sampling rate in Hz of the result.
        limits: length limit, checked from the header before decoding.

    Raises:
        MediaError: not audio, empty, not finite, or longer than the limit.
    """
    if isinstance(source, np.ndarray):
        wave, source_rate = source.astype(np.float32, copy=False), rate
        if wave.ndim != 1:
            raise MediaError(f"an audio array must be mono (samples,), not {wave.shape}")
    else:
        wave, source_rate = _decode_audio(_read(source, limits), limits)
    if not len(wave):
        raise MediaError("the audio has no samples")
    if len(wave) > limits.max_seconds * source_rate:
        raise MediaError(
            f"{len(wave) / source_rate:.0f} s of audio is over the limit of "
            f"{limits.max_seconds:g} s"
        )
    if not np.isfinite(wave).all():
        raise MediaError("the audio holds NaN or infinite samples")
    if source_rate != rate:
        import torch  # here, because it takes seconds to import and images do without it
        from torchaudio.functional import resample

        wave = resample(torch.from_numpy(wave), source_rate, rate).numpy()
    return wave


def _decode_audio(data: bytes, limits: Limits) -> tuple[np.ndarray, int]:
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            seconds = file.frames / file.samplerate
            if seconds > limits.max_seconds:
                raise MediaError(
                    f"{seconds:.0f} s of audio is over the limit of {limits.max_seconds:g} s"
                )
            wave = file.read(dtype="float32", always_2d=True)  # (samples, channels)
            return wave.mean(axis=1), file.samplerate
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise MediaError(f"not readable audio: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Drop the in-memory file's address from a decoder's message."""
    return re.sub(r"<_io\.BytesIO object at 0x[0-9a-f]+>", "the data", str(error))
