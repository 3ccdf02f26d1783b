"""Bytes -> arrays, under limits: a media file is hostile until it is decoded."""

import io
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import soundfile
from PIL import Image, ImageOps
from PIL.ExifTags import Base

from .jpeg import plain_size

ORIENTATION = Base.Orientation.value
_FORMAT = struct.Struct("<IHHIIHH").unpack_from  # of a WAV: bytes, codec, channels, Hz, .., bits
RATES = (4_000, 192_000)  # Hz; outside, a header lies
# of FFmpeg's formats those that are one file; playlists and lists would open files and hosts
FORMATS = (
    "mov,matroska,ogg,mp3,aac,flac,wav,w64,asf,amr,aiff,caf,au,ac3,eac3,ape,wv,tta,mpc,mpc8,"
    "avi,mpegts,mpeg,flv,gif,rm,ivf"
)


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


def load_image(source: Any, limits: Limits = LIMITS) -> Image.Image:
    """Decode to RGB, upright (EXIF); transparency is composited on white.

    Args:
        source: bytes, a path, or a PIL image.
        limits: size limits, checked from the header before a pixel is decoded.

    Raises:
        MediaError: not an image, truncated, or over a limit.
    """
    try:
        img, data = source, b""
        if not isinstance(source, Image.Image):
            data = read_limited(source, limits)
            # the header is read here, and not by libjpeg, for whom this thread would wait again
            if size := plain_size(data):
                _check_pixels(*size, limits)
                return Image.fromarray(simplejpeg.decode_jpeg(data))
            img = Image.open(io.BytesIO(data))  # reads the header only
        _check_pixels(img.size[0], img.size[1], limits)
        orientation = img.getexif().get(ORIENTATION, 1)
        if data and img.format == "JPEG" and img.mode in ("RGB", "L"):
            img = Image.fromarray(simplejpeg.decode_jpeg(data))  # quicker, and strict
        if orientation != 1:
            img.getexif()[ORIENTATION] = orientation
            img = ImageOps.exif_transpose(img)
        if img.mode in ("RGBA", "LA", "PA") or "transparency" in img.info:
            img = img.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", img.size, "white"), img).convert("RGB")
        return img.convert("RGB")
    except (MediaError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(f"too many pixels: {error}") from error
    except Exception as error:  # damaged files make decoders raise nearly anything
        raise MediaError(f"not a readable image: {reason_of(error)}") from error


def _check_pixels(width: Any, height: Any, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise MediaError(
            f"{width}x{height} pixels is over the limit of {limits.max_pixels:,} pixels"
        )
    if max(width, height) > limits.max_aspect * min(width, height):
        raise MediaError(f"{width}x{height} is too thin an image (limit 1:{limits.max_aspect:g})")


def load_audio(source: Any, rate: int = 16_000, limits: Limits = LIMITS) -> np.ndarray:
    """Decode to mono float32 (samples,) at `rate` Hz.

    Args:
        source: bytes or a path of anything libsndfile or FFmpeg reads, or a mono float array
            at `rate`.
        rate: sampling rate in Hz of the result.
        limits: length limit, checked from the header before decoding.

    Raises:
        MediaError: not audio, empty, not finite, or longer than the limit.
    """
    if isinstance(source, np.ndarray):
        wave, source_rate = source.astype(np.float32, copy=False), rate
        if wave.ndim != 1:
            raise MediaError(f"an audio array must be mono (samples,), not {wave.shape}")
        _check_finite(wave)
    else:
        wave, source_rate = _decode_audio(read_limited(source, limits), limits)
    if not len(wave):
        raise MediaError("the audio has no samples")
    _check_seconds(len(wave) / source_rate, limits)
    if source_rate != rate:
        import torch  # here, because it takes seconds to import and images do without it
        from torchaudio.functional import resample

        wave = resample(torch.from_numpy(wave), _filter_rate(source_rate, rate), rate).numpy()
    return wave


def _filter_rate(source_rate: int, rate: int) -> int:
    if math.gcd(source_rate, rate) < 25:  # 44,101 Hz would need a filter of gigabytes
        return round(source_rate / 100) * 100  # a pitch error nobody hears
    return source_rate


def resampled(counts: np.ndarray, rates: np.ndarray, rate: int) -> np.ndarray:
    """Tell how many samples `load_audio` makes at `rate` of `counts` samples at `rates`, (n,)."""
    out = counts.astype(np.int64)
    for source in np.unique(rates):
        old, mine = _filter_rate(int(source), rate), rates == source
        if old != rate:
            out[mine] = -(-out[mine] * rate // old)
    return out


def _decode_audio(data: bytes, limits: Limits) -> tuple[np.ndarray, int]:
    """Decode with libsndfile, or FFmpeg (through PyAV) where it does not know the format."""
    if plain := _plain_wav(data):
        wave, rate = plain
        _check_rate(rate)
        _check_seconds(len(wave) / rate, limits)
        return np.multiply(wave, np.float32(2**-15), dtype=np.float32), rate
    try:
        file = soundfile.SoundFile(io.BytesIO(data))
    except soundfile.SoundFileError:
        return _decode_with_av(data, limits)
    with file:
        _check_rate(file.samplerate)
        _check_seconds(file.frames / file.samplerate, limits)
        try:
            channels = file.read(dtype="float32", always_2d=True)  # (samples, channels)
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise MediaError(f"not readable audio: {reason_of(error)}") from error
        wave = channels.mean(axis=1)
        _check_finite(wave)
        return wave, file.samplerate


def _plain_wav(data: bytes) -> tuple[np.ndarray, int] | None:
    """Return the samples (n,) int16 and Hz of a mono 16-bit WAV; None where libsndfile should look.

    libsndfile calls back into Python for every few bytes, which takes eight times as long.
    """
    if data[:4] != b"RIFF" or data[8:16] != b"WAVEfmt ":
        return None
    size, kind, channels, rate, _, _, bits = _FORMAT(data, 16)
    if (size, kind, channels, bits) != (16, 1, 1, 16) or data[36:40] != b"data":
        return None
    size = int.from_bytes(data[40:44], "little")
    if size % 2 or 44 + size > len(data):
        return None
    return np.frombuffer(data, "<i2", size // 2, 44), rate


def open_av(data: Any) -> Any:
    """Open bytes with FFmpeg so that they cannot make it read anything else; raises its errors."""
    import av

    return av.open(io.BytesIO(data), options={"format_whitelist": FORMATS})


def _decode_with_av(data: bytes, limits: Limits) -> tuple[np.ndarray, int]:
    import av

    try:
        with open_av(data) as container:
            stream = container.streams.audio[0]
            rate = stream.rate
            _check_rate(rate)
            resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
            chunks: list[np.ndarray] = []
            samples = 0
            for frame in container.decode(stream):
                chunks += [out.to_ndarray()[0] for out in resampler.resample(frame)]
                samples += frame.samples
                _check_seconds(samples / rate, limits)
            wave = np.concatenate([np.zeros(0, np.float32), *chunks])
            _check_finite(wave)
            return wave, rate
    except (av.FFmpegError, IndexError, ValueError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(f"not readable audio: {reason_of(error)}") from error


def _check_finite(wave: np.ndarray) -> None:
    if not np.isfinite(wave).all():
        raise MediaError("the audio holds NaN or infinite samples")


def _check_rate(rate: int) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise MediaError(f"a sampling rate of {rate} Hz is outside {RATES[0]} to {RATES[1]} Hz")


def _check_seconds(seconds: float, limits: Limits) -> None:
    if seconds > limits.max_seconds:
        raise MediaError(f"{seconds:.0f} s of audio is over the limit of {limits.max_seconds:g} s")


def reason_of(error: Exception) -> str:
    """Drop the in-memory file's address from a decoder's message."""
    return re.sub(r"<_io\.BytesIO object at 0x[0-9a-f]+>", "the data", str(error))
