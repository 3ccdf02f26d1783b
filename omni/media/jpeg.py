"""JPEGs: the header of one that is to be shown as it is stored, and the pixels of any."""

import io
import re
import struct
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

_FRAME = struct.Struct(">BHHB").unpack_from  # bits, height, width, components
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive
# What libjpeg passes over by its length, as we do, so that both see the same frame: tables,
# comments, and what programs add but for APP1, where EXIF or XMP may say how to turn the picture.
_SEGMENTS = _FRAMES | {0xC4, 0xDB, 0xDD, 0xFE, 0xE0, *range(0xE2, 0xF0)}
# what libjpeg says where pixels are lost; its other warnings are of bytes that no pixel needs
_LOST = re.compile("premature end|bad (huffman|arithmetic) code|instead of RST", re.IGNORECASE)


class Size(NamedTuple):
    """Of a picture in pixels."""

    width: int
    height: int


def plain_size(data: Any) -> Size | None:
    """Return the size of a plain JPEG (`data`: bytes or a memoryview); None: ask Pillow.

    Plain is grey or three colours of 8 bits, one frame, and nothing that could turn it. Pillow
    reads all that a file says of itself; most files say nothing.
    """
    at, frame = 2, 0
    if data[:2] != b"\xff\xd8":
        return None
    try:
        while data[at] == 0xFF and (kind := data[at + 1]) in _SEGMENTS:
            if kind in _FRAMES:
                if frame:
                    return None
                frame = at + 4
            at += 2 + (data[at + 2] << 8 | data[at + 3])
        if data[at : at + 2] != b"\xff\xda" or not frame:  # no scan, or what Pillow should judge
            return None
        bits, height, width, components = _FRAME(data, frame)
    except (IndexError, struct.error):
        return None
    if bits != 8 or components not in (1, 3) or not (width and height):
        return None
    return Size(width, height)


def jpeg_pixels(data: bytes) -> np.ndarray:
    """Decode to (H, W, 3) uint8, quicker than Pillow, and strictly: pixels may not be lost.

    Raises:
        ValueError: what libjpeg says is lost.
        OSError: Pillow cannot read it either.
    """
    try:
        return simplejpeg.decode_jpeg(data)
    except ValueError as error:
        if _LOST.search(str(error)):
            raise
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
