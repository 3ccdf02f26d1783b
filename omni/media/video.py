"""Video -> frames at known times, under limits.

A clip of S seconds is cut into N equal spans, N being S x fps rounded, and shown as it is in the
middle of each. S is the number of frames over their rate, both facts of the file that need no
decoding. So `video_times` tells the result of `load_video` from an index alone:

1. Facts and decoder see the same list of frames: `_scan` makes both from the packets' times.
2. Rates, of the file and asked for, are rounded to float32 first, as an index stores them.
3. A frame that the decoder does not return is stood in for by the one before it, so N never
   depends on the decoder; a clip that ends early is an error.
4. Frames far from one another are decoded from the keyframes before them. Where that does not
   meet exactly the frames of the scan, everything is decoded instead.
"""

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .ffmpeg import open_av
from .limits import Limits, MediaError, check_seconds, check_size, read_limited, reason_of
from .track import load_track, track_span

FPS, MAX_FRAMES = 1.0, 16  # unless a part or a processor says otherwise
TAIL = 2  # frames at the end that a decoder may keep to itself, such as empty packets


@dataclass(frozen=True)
class VideoLimits(Limits):
    """What a decoder may spend on one video; a larger one is an error."""

    max_bytes: int = 1 << 30
    max_seconds: float = 3600.0
    max_frames: int = 200_000  # in the file
    max_decoded: int = 20_000_000_000  # pixels of all frames: 5 minutes of 1080p at 30 frames/s
    max_clip: int = 400_000_000  # pixels of the frames that `load_video` returns at once


LIMITS = VideoLimits()


@dataclass(frozen=True)
class Scan:
    """What a video is: upright size in pixels, and the time of each frame as shown.

    `pts` are sorted, in units of `unit` seconds; `rate` in frames/s is their mean, as a float32.
    `keys` are those of them at which decoding can begin; none where the file cannot be trusted.
    `sound` is when it begins and ends, in seconds from the first frame; equal: there is none.
    """

    width: int
    height: int
    pts: list[int]
    keys: list[int]
    unit: float
    rate: float
    sound: tuple[float, float] = (0.0, 0.0)


def video_frames(counts: Any, rates: Any, fps: Any = FPS, max_frames: Any = MAX_FRAMES) -> Any:
    """Tell how many frames `load_video` returns: of one video, or of many at once, (n,) int64.

    Args:
        counts: frames in the file.
        rates: frames/s of the file, float32.
        fps: frames/s that are asked for.
        max_frames: what is returned at most; a longer clip is shown at fewer frames/s.
    """
    seconds = counts / np.float64(np.asarray(rates, np.float32))
    found = np.floor(seconds * np.float64(np.asarray(fps, np.float32)) + 0.5).astype(np.int64)
    return np.clip(found, 1, np.minimum(counts, max_frames))


def video_times(
    count: int, rate: float, fps: float = FPS, max_frames: int = MAX_FRAMES
) -> np.ndarray:
    """Tell the times in seconds, (N,), at which `load_video` shows a video of these facts."""
    return middles(count, rate, int(video_frames(count, rate, fps, max_frames)))


def middles(count: int, rate: float, frames: int) -> np.ndarray:
    """Tell the times in seconds, (N,), in the middle of each of so many equal spans of a video."""
    return (np.arange(frames) + 0.5) * (count / float(np.float32(rate)) / frames)


def load_video(
    source: bytes | str | Path,
    fps: float = FPS,
    max_frames: int = MAX_FRAMES,
    limits: VideoLimits = LIMITS,
) -> tuple[np.ndarray, np.ndarray]:
    """Decode to frames (N, H, W, 3) uint8, upright, and their times (N,) in seconds.

    Raises:
        MediaError: not a video, broken before its end, or over a limit.
    """
    data = read_limited(source, limits)
    scan = _scan(data, limits)
    times = video_times(len(scan.pts), scan.rate, fps, max_frames)
    if len(times) * scan.width * scan.height > limits.max_clip:
        raise MediaError(
            f"{len(times)} frames of {scan.width}x{scan.height} are over the limit of "
            f"{limits.max_clip:,} pixels at once: take them one by one with `iter_video`"
        )
    return np.stack([frame for frame, _ in show_frames(data, scan, times, limits)]), times


def iter_video(
    source: bytes | str | Path,
    fps: float = FPS,
    max_frames: int = MAX_FRAMES,
    limits: VideoLimits = LIMITS,
) -> Iterator[tuple[np.ndarray, float]]:
    """Yield what `load_video` returns as (frame (H, W, 3), seconds), holding one at a time."""
    data = read_limited(source, limits)
    scan = _scan(data, limits)
    times = video_times(len(scan.pts), scan.rate, fps, max_frames)
    yield from show_frames(data, scan, times, limits)


def load_sound(data: bytes, scan: Scan) -> np.ndarray:
    """Decode the sound of a video, see `track.load_track`; `track.track_samples` cut it."""
    return load_track(data, scan.pts[0] * scan.unit, scan.sound)


def scan_video(data: bytes, limits: VideoLimits = LIMITS) -> Scan:
    """Read the facts of a video: every packet, but only the first frame is decoded.

    Raises:
        MediaError: as `load_video`, except for damage behind the first frame.
    """
    check_size(len(data), limits)
    return _scan(data, limits)


def _scan(data: bytes, limits: VideoLimits) -> Scan:
    pts: list[int] = []
    keys: list[int] = []
    timed = True
    first, latest, last, packets = None, 0, 0.0, 0
    with _opened(data, limits) as (container, stream):
        for packet in container.demux(stream):
            packets += packet.size > 0
            if packet.size and not packet.is_discard:  # an editor may have cut frames away
                at = packet.dts if packet.pts is None else packet.pts
                if at is None:
                    raise MediaError("the frames have no times")
                if not pts or at > latest:
                    latest, last = at, packet.duration or 0
                pts.append(at)
                timed = timed and packet.pts is not None
                if packet.is_keyframe:
                    keys.append(at)
                if len(pts) > limits.max_frames:
                    raise MediaError(f"over the limit of {limits.max_frames:,} frames")
            if first is None:
                first = next(iter(packet.decode()), None)
        if first is None:
            raise MediaError("no frame can be decoded")
        if stream.frames - packets > TAIL:
            raise MediaError(f"cut off: {packets} of {stream.frames} frames are there")
        unit, nominal = float(stream.time_base), float(stream.average_rate or 0)
        sound = bool(container.streams.audio)
    pts.sort()
    span = pts[-1] - pts[0]
    last = last or (1 / nominal / unit if nominal else span / max(len(pts) - 1, 1) or 1 / unit)
    height, width, _ = _upright(first).shape
    rate = float(np.float32(len(pts) / ((span + last) * unit)))
    keys = sorted(keys) if timed and keys and min(keys) == pts[0] else []
    scan = Scan(width, height, pts, keys, unit, rate)
    _check_cost(scan, limits)
    if not sound:
        return scan
    start, end = track_span(data, pts[0] * unit)
    check_seconds(end - start, limits)
    return replace(scan, sound=(start, end))


def _check_cost(scan: Scan, limits: VideoLimits) -> None:
    seconds = len(scan.pts) / scan.rate
    if seconds > limits.max_seconds:
        raise MediaError(f"{seconds:.0f} s are over the limit of {limits.max_seconds:g} s")
    if len(scan.pts) * scan.width * scan.height > limits.max_decoded:
        raise MediaError(
            f"{len(scan.pts)} frames of {scan.width}x{scan.height} are over the limit of "
            f"{limits.max_decoded:,} pixels to decode"
        )


def show_frames(
    data: bytes, scan: Scan, times: np.ndarray, limits: VideoLimits = LIMITS
) -> Iterator[tuple[np.ndarray, float]]:
    """Yield the frame (H, W, 3) that is on the screen at each of the times (N,), and that time.

    Raises:
        MediaError: the frames are broken.
    """
    begin = scan.pts[0]
    # a frame that begins just then, but for the rounding of times, is on the screen
    spots = [bisect_right(scan.pts, begin + t / scan.unit + 0.01) - 1 for t in times]
    wanted = [scan.pts[spot] for spot in spots]
    done = 0
    if scan.keys:
        try:
            for frame in _seek(data, scan, wanted, limits):
                yield frame, float(times[done])
                done += 1
            return
        except MediaError:
            pass  # only decoding everything tells what is broken (invariant 4)
    for frame in islice(_sweep(data, scan, wanted, limits), done, None):
        yield frame, float(times[done])
        done += 1


def _seek(data: bytes, scan: Scan, wanted: list[int], limits: VideoLimits) -> Iterator[np.ndarray]:
    """Yield the wanted frames, decoding each from the last keyframe before it."""
    with _opened(data, limits) as (container, stream):
        frames, at, last = container.decode(stream), scan.pts[0] - 1, None
        for pts in wanted:
            key = scan.keys[bisect_right(scan.keys, pts) - 1]
            if key > at + 1:
                container.seek(key, stream=stream)
                frames = container.decode(stream)
            while at != pts or last is None:
                last = next(frames, None)
                if last is None or last.pts is None or last.pts > pts:
                    raise MediaError("broken: a frame is missing behind a keyframe")
                at = last.pts
            yield _upright(last, scan)


def _sweep(data: bytes, scan: Scan, wanted: list[int], limits: VideoLimits) -> Iterator[np.ndarray]:
    """Yield the wanted frames, decoding all from the first on (invariant 3)."""
    done, last = 0, None
    with _opened(data, limits) as (container, stream):
        for frame in container.decode(stream):
            at = frame.dts if frame.pts is None else frame.pts
            while done < len(wanted) and at is not None and wanted[done] <= at:
                yield _upright(frame if wanted[done] == at or last is None else last, scan)
                done += 1
            if done == len(wanted):
                return
            last = frame
    lacking = scan.pts[-TAIL:][0]
    if last is None or wanted[done] < lacking:
        seconds = (wanted[done] - scan.pts[0]) * scan.unit
        raise MediaError(f"broken: no frame at {seconds:.1f} s and later can be decoded")
    for _ in wanted[done:]:
        yield _upright(last, scan)


def _upright(frame: Any, scan: Scan | None = None) -> np.ndarray:
    """Turn a decoded frame to (H, W, 3) as it is meant to be seen, of the size of the first."""
    if frame.is_corrupt:
        raise MediaError(f"broken: the frame at {frame.time or 0:.1f} s is damaged")
    turns = round(frame.rotation / 90) % 4  # counterclockwise
    size = {}
    if scan:
        wide, high = (scan.height, scan.width) if turns % 2 else (scan.width, scan.height)
        size = {"width": wide, "height": high}
    pixels = frame.to_ndarray(format="rgb24", **size)
    return np.ascontiguousarray(np.rot90(pixels, turns))


@contextmanager
def _opened(data: bytes, limits: VideoLimits) -> Iterator[tuple[Any, Any]]:
    """Open the first video stream; whatever FFmpeg raises meanwhile becomes a MediaError."""
    import av

    try:
        with open_av(data) as container:
            if not container.streams.video:
                raise MediaError("the file holds no video")
            stream = container.streams.video[0]
            if stream.codec_context is None:  # PyAV would crash on its packets
                raise MediaError("not a readable video: no decoder is known for it")
            width, height = stream.codec_context.width, stream.codec_context.height
            if width * height > limits.max_pixels:
                raise MediaError(
                    f"{width}x{height} pixels is over the limit of {limits.max_pixels:,} pixels"
                )
            # the size may change within the stream; threads are those of the reader
            stream.codec_context.options = {"max_pixels": str(limits.max_pixels)}
            stream.codec_context.thread_count = 1
            yield container, stream
    except (MediaError, MemoryError):
        raise
    except (av.FFmpegError, ValueError, OSError, EOFError) as error:
        raise MediaError(f"not a readable video: {reason_of(error)}") from error
