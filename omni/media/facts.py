"""What a media file is, by its header where that is certain: its cost without decoding it.

Facts are those of the decoder: `load_image`, `load_audio` and `load_video` give what they say.
The common formats are read here, in microseconds. Where their header is not plain, and for all
others, the libraries that decode them are asked, and where only decoding tells, it is decoded.
"""

import struct
from typing import Any, NamedTuple

from .decode import ORIENTATION, load_image, open_image
from .jpeg import plain_size
from .limits import MediaError, reason_of
from .sound import sound_length

KINDS = ("", "image", "audio", "video")  # numbers on disk: append only
_MOST = 2**32 - 1
_SIZES, _CHUNK = (struct.Struct(f).unpack_from for f in (">II", ">I4s"))
_TRANSPOSED = (5, 6, 7, 8)  # EXIF orientations that turn width and height
_LOADED = ("ICO", "ICNS")  # formats whose files hold pictures that may have other sizes
_SAYS_HOW_TO_TURN = (b"XML:com.adobe.xmp", b"Raw profile type")  # text chunks of a PNG


class Facts(NamedTuple):
    """Size of one file: pixels as shown (upright), samples or frames, and Hz or frames/s.

    Of a video, also when its sound begins and ends, in seconds from the first frame, as float32.
    """

    width: int = 0
    height: int = 0
    count: int = 0
    rate: float = 0.0
    sound_start: float = 0.0
    sound_end: float = 0.0


FIELDS = [(name, type(value)) for name, value in Facts()._asdict().items()]
"""of an array of facts, one a file"""


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
    image = open_image(data)  # reads the header only
    if image.format in _LOADED:
        return Facts(*load_image(data.tobytes()).size)
    width, height = image.size  # of a TIFF, it is turned already
    if image.format != "TIFF" and image.getexif().get(ORIENTATION, 1) in _TRANSPOSED:
        width, height = height, width
    return Facts(width, height)


def _png_size(data: memoryview) -> tuple[int, int] | None:
    """Return (width, height) of a PNG that nothing could turn; Pillow decodes pixels to know."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR":
        return None
    at = 8
    while at + 12 <= len(data):
        length, kind = _CHUNK(data, at)
        text = kind in (b"tEXt", b"zTXt", b"iTXt")
        if kind == b"eXIf" or (
            text and bytes(data[at + 8 : at + 25]).startswith(_SAYS_HOW_TO_TURN)
        ):
            return None
        if kind == b"IEND":
            width, height = _SIZES(data, 16)
            return (width, height) if width and height else None
        at += 12 + length
    return None


def _audio(data: memoryview) -> Facts:
    return Facts(0, 0, *sound_length(data))


def _video(data: memoryview) -> Facts:
    from .video import scan_video

    scan = scan_video(bytes(data))
    return Facts(scan.width, scan.height, len(scan.pts), scan.rate, *scan.sound)


_READERS = {"image": _image, "audio": _audio, "video": _video}
