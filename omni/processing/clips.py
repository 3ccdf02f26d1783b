"""How a video is shown: as images, each after its time, and between them the sound of that time."""

import logging
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..encoders import readers
from ..encoders.windows import windows_of
from ..media.decode import within_scale
from ..media.facts import FIELDS
from ..media.limits import LIMITS, read_limited
from ..media.track import RATE, track_samples
from ..media.video import (
    FPS,
    MAX_FRAMES,
    load_sound,
    middles,
    scan_video,
    show_frames,
    video_frames,
)
from ..media.video import LIMITS as VIDEO_LIMITS
from .messages import SHOWING, check_video

Piece = tuple[str, str, Any]
"""the text before it, "image" or "audio", and the medium; None where only facts are known"""
DEFAULTS = {"fps": FPS, "max_frames": MAX_FRAMES}
_ASKED = [("fps", float), ("max_frames", int), ("sound", int)]
HEARD = {None: 0, True: 1, False: 2}
"""what a part says of its sound, as the column `sound` of facts has it"""
_log = logging.getLogger(__name__)


class ShowsVideo:
    """A processor that shows videos: frames are images, their sound is audio.

    1. The frames of a video are all of its size, so each takes the same number of tokens.
    2. With the k-th frame goes the sound of the k-th span, see `omni.media.track`: where nothing
       reads audio, or `sound` is false, there is none, and that is logged once.
    3. Spans longer than a sound may be are several sounds.
    """

    if TYPE_CHECKING:
        modalities: dict[str, Any]
        media_lengths: Any
    video: dict[str, Any]
    _warned = False

    def show_video(self, options: Mapping[str, Any] | None) -> None:
        """Set how videos are shown whose parts do not say it.

        Args:
            options: `fps` and `max_frames`; `max_tokens` of all frames together, which then are
                fewer, but at least one; `sound`: whether it is heard where the model hears.

        Raises:
            MessageError: there is no such option, or it has no such value.
        """
        options = {k: v for k, v in (options or {}).items() if v is not None}
        check_video(options, SHOWING)
        self.video = {**getattr(self, "video", DEFAULTS), **options}

    def frames_of(self, facts: Any) -> np.ndarray:
        """Tell how many frames are shown of videos of these facts, (n,): see `media_lengths`."""
        fps = np.where(facts["fps"] > 0, facts["fps"], self.video["fps"])
        most = np.where(facts["max_frames"] > 0, facts["max_frames"], self.video["max_frames"])
        if cap := self.video.get("max_tokens"):
            each = np.maximum(self.media_lengths("image", facts)[0], 1)
            most = np.minimum(most, np.maximum(cap // each, 1))
        return video_frames(facts["count"], facts["rate"], fps, most)

    def sounds_of(self, facts: Any, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tell what is heard of videos of these facts of which so many frames are shown, (n,).

        Returns:
            The frame that each sound goes with, counted over all videos, (m,), and facts of the
            sounds, (m,).
        """
        wants = np.where(facts["sound"] > 0, facts["sound"] == 1, self.video.get("sound", True))
        hears = wants & bool(readers(self.modalities, "audio"))
        samples = track_samples(facts, frames) * np.repeat(hears, frames)
        longest = round(LIMITS.max_seconds * RATE)
        frame, counts = windows_of(_sounds(samples), RATE, longest)
        return frame, _sounds(counts)

    def clip(self, part: Mapping[str, Any]) -> Iterator[Piece]:
        """Decode a video to the pieces that are shown of it.

        Raises:
            MediaError: it cannot be decoded within the limits.
        """
        data = read_limited(part["video"], VIDEO_LIMITS)
        scan = scan_video(data)
        facts = np.zeros(1, FIELDS + _ASKED)
        known = scan.width, scan.height, len(scan.pts), scan.rate, *scan.sound
        asked = part.get("fps", 0), part.get("max_frames", 0), HEARD[part.get("sound")]
        facts[0] = *known, *asked
        times, heard, sounds = self._layout(facts)
        waves: Iterator[np.ndarray] = iter(())
        if len(sounds):
            wave = within_scale(load_sound(data, scan))
            ends = np.cumsum(sounds["count"])
            waves = iter(np.split(wave, ends[:-1]))
        elif scan.sound[1] > scan.sound[0]:
            self._warn_unheard(part)
        for sounding, (pixels, seconds) in zip(heard, show_frames(data, scan, times), strict=True):
            yield _stamp(seconds), "image", Image.fromarray(pixels)
            for wave in islice(waves, sounding):
                yield "", "audio", wave

    def clip_sketch(self, facts: np.ndarray) -> Iterator[Piece]:
        """Tell the pieces of a video by its facts alone, those that an index has of it, (1,)."""
        times, heard, _ = self._layout(facts)
        for seconds, sounding in zip(times, heard, strict=True):
            yield _stamp(seconds), "image", None
            yield from [("", "audio", None)] * sounding

    def _layout(self, facts: np.ndarray) -> tuple[np.ndarray, list[int], np.ndarray]:
        """Return of one video the times of its frames, how many sounds go with each, and facts of
        these sounds."""
        frames = self.frames_of(facts)
        times = middles(int(facts["count"][0]), float(facts["rate"][0]), int(frames[0]))
        frame, sounds = self.sounds_of(facts, frames)
        return times, np.bincount(frame, minlength=len(times)).tolist(), sounds

    def _warn_unheard(self, part: Mapping[str, Any]) -> None:
        chosen = part.get("sound", self.video.get("sound")) is False
        if not chosen and not self._warned:
            self._warned = True
            _log.warning(
                "a video has sound, and the model has no encoder for audio: its frames are shown "
                "alone, as those of all such videos from here on"
            )


def _sounds(counts: np.ndarray) -> np.ndarray:
    """Return facts of sounds of so many samples at `RATE`."""
    facts = np.zeros(len(counts), FIELDS)
    facts["count"], facts["rate"] = counts, RATE
    return facts


def _stamp(seconds: float) -> str:
    return f"{seconds:.1f}s"
