"""What a media file is, from its header: enough to tell its cost without decoding it."""

import io
from typing import Any, NamedTuple

import soundfile
from PIL import Image

from .media import ORIENTATION, MediaError, open_av

KINDS = ("", "image", "audio", "video")  # numbers on disk: append only
_MOST = 2**32 - 1
_SWAPPED = (5, 6, 7, 8)  # EXIF orientations that turn width and height


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
        facts = _READERS[kind](data)
        if kind != "image" and not facts.count:
            raise MediaError(f"the {kind} is empty")
        return facts._replace(count=min(max(facts.count, 0), _MOST))  # headers may lie
    except (MediaError, MemoryError):
        raise
    except Exception as error:  # damaged files make decoders raise nearly anything
        raise MediaError(f"not a readable {kind}: {error}") from error


def _image(data: Any) -> Facts:
    image = Image.open(io.BytesIO(data))  # reads the header only
    width, height = image.size
    if image.getexif().get(ORIENTATION, 1) in _SWAPPED:
        width, height = height, width
    return Facts(width, height)


def _audio(data: Any) -> Facts:
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            return Facts(count=file.frames, rate=file.samplerate)
    except soundfile.SoundFileError:
        return _audio_by_decoding(data)


def _audio_by_decoding(data: Any) -> Facts:
    with open_av(data) as container:
        stream = container.streams.audio[0]
        count = sum(frame.samples for frame in container.decode(stream))
        return Facts(count=count, rate=stream.rate)


def _video(data: Any) -> Facts:
    from .video import scan_video

    scan = scan_video(data)
    return Facts(scan.width, scan.height, len(scan.pts), scan.rate)


_READERS = {"image": _image, "audio": _audio, "video": _video}
