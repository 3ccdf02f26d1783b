"""What a media file is, from its header: enough to tell its cost without decoding it.

The common formats are read here, in microseconds, and where their header is not plain, and for
all others, the libraries that decode them are asked.
"""

import io
import struct
from typing import Any, NamedTuple

import soundfile
from PIL import Image

from .decode import ORIENTATION, MediaError, open_av, reason_of
from .jpeg import plain_size

KINDS = ("", "image", "audio", "video")  # numbers on disk: append only
_MOST = 2**32 - 1
_SIZES, _CHUNK = (struct.Struct(f).unpack_from for f in (">II", ">I4s"))
_TRANSPOSED = (5, 6, 7, 8)  # EXIF orientations that turn width and height


class Facts(NamedTuple):
    """Size of one file: pixels as shown (upright), samples or frames, and Hz or frames/s."""

    width: int = 0
    height: int = 0
    count: int = 0
    rate: float = 0.0


def facts_of(kind: str, data: Any) -> Facts:
    """Read the facts of a file from its bytes.

    Raises:
        MediaError: no decoder knows the file, so that it could not be decoded either. What is
            over a limit has facts all the same: limits are for those who decode.
    """
    try:
        facts = _READERS[kind](memoryview(data))
        if kind != "image" and not facts.count:
            raise MediaError(f"the {kind} is empty")
        return facts._replace(count=min(max(facts.count, 0), _MOST))  # headers may lie
    except (MediaError, MemoryError):
        raise
    except Exception as error:  # damaged files make decoders raise nearly anything
        raise MediaError(f"not a readable {kind}: {reason_of(error)}") from error


def _image(data: memoryview) -> Facts:
    if size := plain_size(data) or _png_size(data):
        return Facts(*size)
    image = Image.open(io.BytesIO(data))  # reads the header only
    width, height = image.size
    if image.getexif().get(ORIENTATION, 1) in _TRANSPOSED:
        width, height = height, width
    return Facts(width, height)


def _png_size(data: memoryview) -> tuple[int, int] | None:
    """Return (width, height) of a PNG without EXIF, for which Pillow would decode the pixels."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR":
        return None
    at = 8
    while at + 12 <= len(data):
        length, kind = _CHUNK(data, at)
        if kind == b"eXIf":
            return None
        if kind == b"IEND":
            width, height = _SIZES(data, 16)
            return (width, height) if width and height else None
        at += 12 + length
    return None


def _audio(data: memoryview) -> Facts:
    if found := _flac_length(data) or _wav_length(data):
        return Facts(count=found[0], rate=found[1])
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            return Facts(count=file.frames, rate=file.samplerate)
    except soundfile.SoundFileError:
        return _audio_by_decoding(data)


def _flac_length(data: memoryview) -> tuple[int, int] | None:
    """Return (samples, Hz) of a FLAC file whose header tells them."""
    if data[:4] != b"fLaC" or len(data) < 42 or data[4] & 127:
        return None
    packed = int.from_bytes(data[18:26], "big")  # 20 bits Hz, 3 channels, 5 depth, 36 samples
    count, rate = packed & (1 << 36) - 1, packed >> 44
    return (count, rate) if count and rate else None


def _wav_length(data: memoryview) -> tuple[int, int] | None:
    """Return (samples, Hz) of a whole WAV file of plain or float samples."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    at, rate, block = 12, 0, 0
    while at + 8 <= len(data):
        kind, size = bytes(data[at : at + 4]), int.from_bytes(data[at + 4 : at + 8], "little")
        if kind == b"fmt " and data[at + 8 : at + 10] in (b"\1\0", b"\3\0"):
            rate = int.from_bytes(data[at + 12 : at + 16], "little")
            block = int.from_bytes(data[at + 20 : at + 22], "little")
        if kind == b"data":
            whole = rate and block and 0 < size <= len(data) - at - 8
            return (size // block, rate) if whole else None
        at += 8 + size + size % 2
    return None


def _audio_by_decoding(data: memoryview) -> Facts:
    with open_av(data) as container:
        stream = container.streams.audio[0]
        count = sum(frame.samples for frame in container.decode(stream))
        return Facts(count=count, rate=stream.rate)


def _video(data: memoryview) -> Facts:
    from .video import scan_video

    scan = scan_video(bytes(data))
    return Facts(scan.width, scan.height, len(scan.pts), scan.rate)


_READERS = {"image": _image, "audio": _audio, "video": _video}
