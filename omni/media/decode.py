"""Bytes -> arrays, under limits: a media file is hostile until it is decoded."""

import io
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from PIL.ExifTags import Base

from .heif import know_heic
from .jpeg import jpeg_pixels, plain_size
from .levels import as_rgb
from .limits import LIMITS, Limits, MediaError, check_seconds, read_limited, reason_of
from .resample import resample
from .sound import decode_sound

ORIENTATION = Base.Orientation.value


def load_image(source: Any, limits: Limits = LIMITS) -> Image.Image:
    """Decode to RGB, upright (EXIF); transparency is composited on white.

    A picture of more than 8 bits keeps its levels: its white becomes 255.

    Args:
        source: bytes, a path, or a PIL image.
        limits: size limits, checked from the header before a pixel is decoded.

    Raises:
        MediaError: not an image, truncated, without a known white, or over a limit.
    """
    try:
        if isinstance(source, Image.Image):
            _check_pixels(*source.size, limits)
            return _upright(source, as_rgb(source))
        data = read_limited(source, limits)
        # the header is read here, and not by libjpeg, for whom this thread would wait again
        if size := plain_size(data):
            _check_pixels(*size, limits)
            return Image.fromarray(jpeg_pixels(data))
        img = open_image(data)
        _check_pixels(*img.size, limits)
        if img.format == "JPEG" and img.mode in ("RGB", "L"):
            return _upright(img, Image.fromarray(jpeg_pixels(data)))
        rgb = as_rgb(img)
        _check_pixels(*rgb.size, limits)  # an ICO may hold more than it says
        return _upright(img, rgb)
    except (MediaError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(f"too many pixels: {error}") from error
    except Exception as error:  # damaged files make decoders raise nearly anything
        raise MediaError(f"not a readable image: {reason_of(error)}") from error


def open_image(data: Any) -> Image.Image:
    """Read the header of an image, whatever its format; raises what Pillow raises.

    Raises:
        MediaError: a format that an extra reads which is not installed.
    """
    know_heic(bytes(data[:1024]))
    return Image.open(io.BytesIO(data))


def _upright(img: Image.Image, rgb: Image.Image) -> Image.Image:
    """Turn the pixels of `img` as its EXIF says; Pillow has done so where it forgot that."""
    orientation = img.getexif().get(ORIENTATION, 1)
    if orientation == 1:
        return rgb
    rgb.getexif()[ORIENTATION] = orientation
    return ImageOps.exif_transpose(rgb)


def _check_pixels(width: Any, height: Any, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise MediaError(
            f"{width}x{height} pixels is over the limit of {limits.max_pixels:,} pixels"
        )
    if max(width, height) > limits.max_aspect * min(width, height):
        raise MediaError(f"{width}x{height} is too thin an image (limit 1:{limits.max_aspect:g})")


def load_audio(source: Any, rate: int = 16_000, limits: Limits = LIMITS) -> np.ndarray:
    """Decode to mono float32 (samples,) at `rate` Hz, in [-1, 1].

    The channels are averaged, in every format alike. Lossy formats, resampling and floats may
    go above full scale; such a sound is scaled down as a whole until its peak is 1, never clipped.

    Args:
        source: bytes or a path of anything libsndfile or FFmpeg reads, or a mono float array
            at `rate`.
        rate: sampling rate in Hz of the result.
        limits: length limit, checked from the header, and as samples are decoded.

    Raises:
        MediaError: not audio, empty, not finite, or longer than the limit.
    """
    if isinstance(source, np.ndarray):
        wave, source_rate = source.astype(np.float32, copy=False), rate
        if wave.ndim != 1:
            raise MediaError(f"an audio array must be mono (samples,), not {wave.shape}")
    else:
        wave, source_rate = decode_sound(read_limited(source, limits), limits)
    if not len(wave):
        raise MediaError("the audio has no samples")
    check_seconds(len(wave) / source_rate, limits)
    return within_scale(resample(wave, source_rate, rate))


def within_scale(wave: np.ndarray) -> np.ndarray:
    """Scale a wave (n,) down as a whole if it goes beyond -1 or 1.

    Raises:
        MediaError: it is not finite.
    """
    peak = max(wave.max(initial=0), -wave.min(initial=0))
    if not np.isfinite(peak):
        raise MediaError("the audio holds NaN or infinite samples")
    return wave / peak if peak > 1 else wave
