"""Videos of every container, codec and rate; the n-th frame is grey of the n-th level."""

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np

from .zoo_sounds import Pipe

SIZE = (96, 64)
STEP = 16  # levels between two frames
COUNT = 12
OFF = 7  # levels that a lossy codec, or its range of levels, may take a frame away


class Video(NamedTuple):
    """A file, the size it is shown in, and when each of its frames begins, in seconds."""

    name: str
    data: bytes
    begins: Sequence[float]
    rate: float
    size: tuple[int, int] = SIZE


# container, codec, frames/s
_ENCODED = (
    ("mp4", "libx264", 10), ("mp4", "libx264", 25), ("mp4", "libx265", 10), ("mp4", "mpeg4", 24),
    ("mp4", "libaom-av1", 10), ("mp4", "libvpx-vp9", 10), ("mov", "libx264", 30),
    ("mov", "mjpeg", 5), ("matroska", "libx264", 10), ("matroska", "ffv1", 10),
    ("matroska", "libvpx", 15), ("webm", "libvpx", 10), ("webm", "libvpx-vp9", 24),
    ("avi", "mpeg4", 10), ("avi", "mjpeg", 8), ("mpegts", "libx264", 25),
    ("mpegts", "mpeg2video", 25), ("flv", "libx264", 10), ("asf", "mpeg4", 10), ("gif", "gif", 10),
)  # fmt: skip
_QUIET = {"libx265": {"x265-params": "log-level=none"}}
_PIXELS = {"mjpeg": "yuvj420p", "gif": "gray"}


def videos() -> Iterator[Video]:
    """Yield files of which each frame is known."""
    for form, codec, rate in _ENCODED:
        begins = [n / rate for n in range(COUNT)]
        yield Video(f"{form} {codec} {rate}/s", filmed(form, codec, rate), begins, rate)
    whole = [n / 10 for n in range(COUNT)]
    for form, codec in (("webm", "libvpx"), ("matroska", "libx264"), ("mpegts", "libx264")):
        data = filmed(form, codec, 10, piped=True)
        yield Video(f"{form} {codec} from a pipe", data, whole, 10)
    pieces = {"movflags": "frag_keyframe+empty_moov"}
    data = filmed("mp4", "libx264", 10, piped=True, muxer=pieces)
    yield Video("mp4 in fragments from a pipe", data, whole, 10)
    plain = {"bf": "0"}
    yield Video("mp4 without B-frames", filmed("mp4", "libx264", 10, options=plain), whole, 10)
    slow = Fraction(30_000, 1001)
    yield Video("mp4 at 29.97/s", filmed("mp4", "libx264", slow),
                [float(n / slow) for n in range(COUNT)], float(slow))  # fmt: skip
    ticks = [0, 1, 2, 6, 7, 8, 9, 15, 16, 17, 18, 19]
    for form in ("matroska", "mp4"):
        data = filmed(form, "libx264", 10, ticks=ticks)
        yield Video(f"{form} of uneven frames", data, [tick / 10 for tick in ticks], COUNT / 2.0)
    for form, codec in (("mp4", "libx264"), ("webm", "libvpx")):
        data = filmed(form, codec, 10, count=1)
        yield Video(f"{form} of one frame", data, [0.0], 10)


def filmed(
    form: str,
    codec: str,
    rate: Any,
    count: int = COUNT,
    ticks: Sequence[int] = (),
    piped: bool = False,
    muxer: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
) -> bytes:
    """Return a video whose n-th frame is grey of the level `STEP` * n, at its tick of the rate."""
    out = Pipe() if piped else io.BytesIO()
    with av.open(out, "w", format=form, options=muxer or {}) as container:
        stream: Any = container.add_stream(
            codec, rate=rate, options=options or _QUIET.get(codec, {})
        )
        stream.width, stream.height = SIZE
        stream.pix_fmt = _PIXELS.get(codec, "yuv420p")
        stream.codec_context.time_base, stream.bit_rate = 1 / Fraction(rate), 2_000_000
        for n in range(count):
            grey = np.full((SIZE[1], SIZE[0], 3), STEP * n, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = (ticks[n] if ticks else n), 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return bytes(out.written) if isinstance(out, Pipe) else out.getvalue()
