"""The sound track of a video: where it lies in time, and its samples cut by the frames shown.

1. When a track begins and ends follows from the times of its packets, so without decoding; what
   the decoder makes of it is placed by its own times and fitted to that length.
2. The k-th of N frames brings the sound of the k-th of N equal spans of the clip. The first one
   brings what is heard before the first frame, too, and the last one all that is left.
3. Of several tracks the first is heard, as players do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import numpy as np

from .ffmpeg import open_av
from .limits import MediaError, reason_of
from .resample import resample
from .sound import check_rate, mono

RATE = 16_000  # Hz
_GAP = 0.02  # seconds that times may be off, as containers round them; more is silence
_OFF = 0.5  # seconds that the sound may be shorter or longer than its packets say


def track_span(data: bytes, begin: float) -> tuple[float, float]:
    """Tell when the sound of a video begins and ends; equal where there is none.

    Args:
        data: the file.
        begin: the time of its first frame; the result is in seconds from then, as float32.
    """
    with _opened(data) as (container, stream):
        if stream is None:
            return 0.0, 0.0
        unit = float(stream.time_base)
        if stream.codec_context is None:  # PyAV would crash on its packets
            first = stream.start_time or 0
            spans = [(first, stream.duration or round(1 / unit))]
        else:
            spans = [(packet.dts if packet.pts is None else packet.pts, packet.duration)
                     for packet in container.demux(stream) if packet.size]  # fmt: skip
    timed = sorted((at, lasting) for at, lasting in spans if at is not None)
    if not timed:
        return 0.0, 0.0
    last, lasting = timed[-1]
    lasting = lasting or last - timed[-2:][0][0]  # as long as the one before it
    start, end = (np.float32(at * unit - begin) for at in (timed[0][0], last + lasting))
    return (float(start), float(end)) if end > start else (0.0, 0.0)


def track_samples(facts: Any, frames: np.ndarray) -> np.ndarray:
    """Tell the samples, at `RATE`, that are heard with each frame shown: (sum of frames,) int64.

    Args:
        facts: of videos, (n,): `count`, `rate`, `sound_start` and `sound_end` are used.
        frames: shown of each, (n,).
    """
    video = np.repeat(np.arange(len(frames)), frames)
    nth = np.arange(len(video)) - np.repeat(np.cumsum(frames) - frames, frames) + 1
    start, end = (facts[name].astype(np.float64) for name in ("sound_start", "sound_end"))
    total = np.floor((end - start) * RATE + 0.5).astype(np.int64)[video]
    span = (facts["count"] / facts["rate"].astype(np.float64) / frames)[video]
    cut = np.floor((nth * span - start[video]) * RATE + 0.5).astype(np.int64)
    ends = np.where(nth == frames[video], total, np.clip(cut, 0, total))
    return ends - np.where(nth == 1, 0, np.roll(ends, 1))


def load_track(data: bytes, begin: float, span: tuple[float, float]) -> np.ndarray:
    """Decode the sound of a video to mono float32 (samples,) at `RATE`.

    Args:
        data: the file.
        begin: the time of its first frame.
        span: what `track_span` says.

    Raises:
        MediaError: it cannot be decoded, or not to its end.
    """
    start, end = span
    runs = []
    for rate, run in groupby(_placed(data, begin + start), key=lambda piece: piece[1]):
        runs.append(resample(np.concatenate([wave for wave, _ in run]), rate, RATE))
    wave = np.concatenate([np.zeros(0, np.float32), *runs])
    total = int(np.floor((end - start) * RATE + 0.5))
    if abs(len(wave) - total) > _OFF * RATE:
        raise _unheard(f"broken, {len(wave) / RATE:.1f} s of {total / RATE:.1f} s can be decoded")
    return np.pad(wave[:total], (0, max(0, total - len(wave))))


def _placed(data: bytes, origin: float) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the sound in pieces (n,) with their Hz; where times leave a gap, silence."""
    done = 0.0  # seconds
    with _opened(data) as (container, stream):
        if stream.codec_context is None:
            raise _unheard("no decoder is known for it")
        for frame in container.decode(stream):
            wave, rate = mono(frame), frame.sample_rate
            check_rate(rate)
            gap = 0.0 if frame.time is None else frame.time - origin - done
            if gap > _GAP:
                wave = np.pad(wave, (round(gap * rate), 0))
            done += len(wave) / rate
            yield wave, rate


@contextmanager
def _opened(data: bytes) -> Iterator[tuple[Any, Any]]:
    """Open the first track of sound, None where there is none; errors become MediaError."""
    import av

    try:
        with open_av(data) as container:
            yield container, next(iter(container.streams.audio), None)
    except (MediaError, MemoryError):
        raise
    except (av.FFmpegError, ValueError, OSError, EOFError) as error:
        raise _unheard(reason_of(error)) from error


def _unheard(reason: str) -> MediaError:
    return MediaError(f"the sound of the video: {reason}; show it without: sound=False")
