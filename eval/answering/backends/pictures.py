"""Pictures as an endpoint takes them: PNG, or JPEG where that would be too large."""

import base64
import io
from typing import Any, NamedTuple

from PIL import Image

from omni.media.decode import load_image

MOST = 5_000_000  # letters of base64 of one picture: what the strictest of the large services takes
MOST_OF_ALL = 20_000_000  # of one question
QUALITIES = (95, 90, 80)  # of JPEG, before pixels are given up
SMALLER = 0.7  # of both sides, again and again


class Sent(NamedTuple):
    """A picture as a data URL, and what was done to it; "" for nothing."""

    url: str
    remark: str


def send(source: Any, count: int = 1) -> Sent:
    """A picture as PNG; as JPEG, and then with fewer pixels, where PNG is over the limit.

    Args:
        source: see `load_image`.
        count: of the pictures of its question, which share `MOST_OF_ALL`.

    Raises:
        MediaError: it cannot be read.
    """
    most = min(MOST, MOST_OF_ALL // max(1, count))
    picture = load_image(source)
    if (data := _encode(picture, "PNG")) and len(data) <= most:
        return Sent(f"data:image/png;base64,{data}", "")
    whole = picture.size
    while True:
        for quality in QUALITIES:
            data = _encode(picture, "JPEG", quality=quality)
            if len(data) <= most or max(picture.size) == 1:
                now, before = ("x".join(map(str, size)) for size in (picture.size, whole))
                remark = "JPEG" if now == before else f"JPEG of {now} pixels instead of {before}"
                return Sent(f"data:image/jpeg;base64,{data}", remark)
        width, height = (max(1, int(side * SMALLER)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)


def _encode(picture: Image.Image, kind: str, **options: Any) -> str:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return base64.b64encode(out.getvalue()).decode()
