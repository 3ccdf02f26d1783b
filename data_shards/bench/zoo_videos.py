"""Videos of every container, codec and rate; the n-th frame is grey of the n-th level.

Those with sound hear the n-th tone in the n-th `TONE` seconds, see `tones`.
"""

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
TONE = 0.25  # seconds
OFF = 7  # levels that a lossy codec, or its range of levels, may take a frame away


class Video(NamedTuple):
    """A file, the size it is shown in, and when each of its frames begins, in seconds."""

    name: str
    data: bytes
    begins: Sequence[float]
    rate: float
    size: tuple[int, int] = SIZE
    sound: float = 0.0  # seconds of it


# container, codec, frames/s
_ENCODED = (
    ("mp4", "libx264", 10), ("mp4", "libx264", 25), ("mp4", "libx265", 10), ("mp4", "mpeg4", 24),
    ("mp4", "libaom-av1", 10), ("mp4", "libvpx-vp9", 10), ("mov", "libx264", 30),
    ("mov", "mjpeg", 5), ("matroska", "libx264", 10), ("matroska", "ffv1", 10),
    ("matroska", "libvpx", 15), ("webm", "libvpx", 10), ("webm", "libvpx-vp9", 24),
    ("avi", "mpeg4", 10), ("avi", "mjpeg", 8), ("mpegts", "libx264", 25),
    ("mpegts", "mpeg2video", 25), ("flv", "libx264", 10), ("asf", "mpeg4", 10), ("gif", "gif", 10),
)  # fmt: skip
# container, codec of the pictures, of the sound, its Hz and channels
_SOUNDING = (
    ("mp4", "libx264", "aac", 44_100, "stereo"), ("mov", "libx264", "pcm_s16le", 22_050, "mono"),
    ("matroska", "libx264", "flac", 48_000, "stereo"),
    ("matroska", "libvpx", "aac", 16_000, "mono"), ("webm", "libvpx", "libopus", 48_000, "stereo"),
    ("webm", "libvpx", "libvorbis", 32_000, "mono"), ("mpegts", "libx264", "mp2", 48_000, "stereo"),
    ("flv", "libx264", "aac", 44_100, "mono"), ("asf", "mpeg4", "mp3", 44_100, "stereo"),
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
    for form, codec, heard, hertz, layout in _SOUNDING:
        for seconds in (COUNT / 10, 2.0):  # as long as the pictures, and longer
            data = filmed(form, codec, 10, sound=Sounding(heard, hertz, layout, seconds))
            yield Video(f"{form} {codec} with {heard}, {seconds} s", data, whole, 10, sound=seconds)


class Sounding(NamedTuple):
    """The sound track that a video gets; `start` in seconds after its first frame."""

    codec: str = "aac"
    hertz: int = 16_000
    layout: str = "mono"
    seconds: float = COUNT / 10
    start: float = 0.0


def tones(seconds: float, hertz: int) -> np.ndarray:
    """Return a wave (n,) float32 of 400, 700, 1000, ... Hz, each of `TONE` seconds."""
    times = np.arange(round(seconds * hertz)) / hertz
    wave = 0.5 * np.sin(2 * np.pi * (400 + 300 * (times // TONE)) * times)
    return wave.astype(np.float32)


def pitch(wave: np.ndarray, hertz: int) -> float:
    """Return the strongest frequency of a wave (n,), in Hz."""
    return float(np.abs(np.fft.rfft(wave * np.hanning(len(wave)))).argmax() * hertz / len(wave))


def filmed(
    form: str,
    codec: str,
    rate: Any,
    count: int = COUNT,
    ticks: Sequence[int] = (),
    piped: bool = False,
    muxer: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
    sound: Sounding | None = None,
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
        track = sound and _add_track(container, sound)
        for n in range(count):
            grey = np.full((SIZE[1], SIZE[0], 3), STEP * n, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = (ticks[n] if ticks else n), 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound:
            _write_track(container, track, sound)
    return bytes(out.written) if isinstance(out, Pipe) else out.getvalue()


def _add_track(container: Any, sound: Sounding) -> Any:
    track = container.add_stream(sound.codec, rate=sound.hertz, layout=sound.layout)
    track.codec_context.time_base = Fraction(1, sound.hertz)
    return track


def _write_track(container: Any, track: Any, sound: Sounding) -> None:
    wave = tones(sound.seconds, sound.hertz)
    planar = np.stack([wave] * (2 if sound.layout == "stereo" else 1))
    form = track.codec_context.format.name
    shaper = av.AudioResampler(form, sound.layout, sound.hertz, track.codec_context.frame_size)
    frame = av.AudioFrame.from_ndarray(planar, format="fltp", layout=sound.layout)
    frame.sample_rate, frame.time_base = sound.hertz, Fraction(1, sound.hertz)
    frame.pts = round(sound.start * sound.hertz)
    for piece in (*shaper.resample(frame), *shaper.resample(None), None):
        container.mux(track.encode(piece))
