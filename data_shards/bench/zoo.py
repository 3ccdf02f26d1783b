"""Files of every format, depth, channel, rate and orientation: read rightly, and facts as decoded.

Each is made here and shows what is known: a ramp, a tone, frames of rising levels.
"""

import logging
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from omni.media.decode import load_audio, load_image
from omni.media.facts import FIELDS, Facts, facts_of
from omni.media.limits import MediaError
from omni.media.track import RATE, track_samples
from omni.media.video import load_sound, load_video, scan_video

from .result import Result
from .zoo_pictures import pictures, right, unknowable
from .zoo_sounds import HERTZ, Sound, sounds
from .zoo_videos import OFF, STEP, TONE, Video, pitch, videos

Check = Callable[[], str]  # what is wrong, or ""
SMALL = 3  # one sound of so many is heard
LATE = 0.15  # seconds that a codec may add to a sound track


def run(folder: Path, small: bool = False) -> Result:
    """Read all files: `wrong` are read otherwise than they are, `uncounted` not read or refused.

    Args:
        folder: not used, for nothing is written.
        small: every third sound.
    """
    files: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    wrong = uncounted = 0
    for number, (kind, name, check) in enumerate(_zoo()):
        if small and kind == "sounds" and number % SMALL:
            continue
        files[kind] += 1
        try:
            what = check()
            wrong += bool(what)
        except Exception as error:
            logging.getLogger(__name__).debug("%s", name, exc_info=True)
            what = f"{type(error).__name__}: {error}"
            uncounted += 1
        if what:
            rows.append({"kind": kind, "file": name, "wrong": what})
    figures = {"files": files.total(), "wrong": wrong, "uncounted": uncounted, **files}
    return Result(not (wrong or uncounted), figures, rows)


def _zoo() -> Iterator[tuple[str, str, Check]]:
    for name, data, off in pictures():
        yield "pictures", name, partial(_picture, data, off)
    for name, data in unknowable():
        yield "refused", name, partial(_refused, data)
    for sound in sounds():
        yield "sounds", sound.name, partial(_sound, sound)
    for video in videos():
        yield "videos", video.name, partial(_video, video)


def _picture(data: bytes, off: int) -> str:
    facts, picture = facts_of("image", data), load_image(data)
    if (facts.width, facts.height) != picture.size:
        return f"facts {facts.width}x{facts.height}, decoded {picture.size}"
    return "" if right(np.asarray(picture), off) else "its levels"


def _refused(data: bytes) -> str:
    try:
        load_image(data)
    except MediaError:
        return ""
    raise AssertionError("it was read, though nobody can know how it looks")


def _sound(sound: Sound) -> str:
    facts = facts_of("audio", sound.data)
    rate = int(facts.rate)
    wave = load_audio(sound.data, rate)
    if facts.count != len(wave):
        return f"facts {facts.count} samples, decoded {len(wave)}"
    seconds = len(wave) / rate
    if abs(seconds - sound.seconds) > sound.slack + 1e-9:
        return f"{seconds} s instead of {sound.seconds}"
    # away from the ends, where lossy codecs overshoot
    middle = wave[len(wave) // 4 : len(wave) // 2]
    level, peak = np.sqrt(2 * np.mean(middle**2)), np.abs(middle).max()
    if max(abs(peak - sound.peak), abs(level - sound.peak)) > sound.off or np.abs(wave).max() > 1:
        return f"level {level:.3f} and peak {peak:.3f} instead of {sound.peak:.3f}"
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    hertz = spectrum.argmax() * rate / len(middle)
    return "" if abs(hertz - HERTZ) < 8 else f"{hertz:.0f} Hz instead of {HERTZ}"


def _video(video: Video) -> str:
    facts = facts_of("video", video.data)
    count = len(video.begins)
    if (facts.width, facts.height, facts.count) != (*video.size, count):
        return f"facts {facts}"
    if abs(facts.rate / video.rate - 1) > 0.01:
        return f"{facts.rate:.2f} instead of {video.rate:.2f} frames/s"
    frames, times = load_video(video.data, facts.rate, count)
    if frames.shape != (count, facts.height, facts.width, 3):
        return f"facts {facts}, decoded {frames.shape}"
    wanted = (np.arange(count) + 0.5) / video.rate
    if np.abs(times - wanted).max() > 0.01 * wanted[-1]:
        return f"frames at {times.round(2).tolist()} s"
    shown = np.array([bisect_right(video.begins, time) - 1 for time in times])
    off = np.abs(frames.mean((1, 2, 3)) - STEP * shown).max()
    return _track(video, facts) if off <= OFF else f"a frame is {off:.0f} levels off"


def _track(video: Video, facts: Facts) -> str:
    """Say what is wrong with the sound of a video: its length, or a tone at another time."""
    heard = facts.sound_end - facts.sound_start
    if not -0.05 <= heard - video.sound <= LATE:
        return f"{heard:.2f} s of sound instead of {video.sound}"
    if not video.sound:
        return ""
    wave = load_sound(video.data, scan_video(video.data))
    samples = track_samples(np.array([facts], FIELDS), np.array([len(video.begins)]))
    if samples.sum() != len(wave):
        return f"facts {samples.sum()} samples, decoded {len(wave)}"
    for n in range(round(video.sound / TONE) - 1):
        begin = round((n * TONE - facts.sound_start) * RATE)
        middle = wave[begin + RATE // 12 : begin + RATE // 6]
        if abs((hertz := pitch(middle, RATE)) - (400 + 300 * n)) > 30:
            return f"{hertz:.0f} Hz at {n * TONE} s"
    return ""
