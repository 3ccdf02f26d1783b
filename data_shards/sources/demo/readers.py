"""Who reads in each split: voices, pitches, speeds and seeds, never shared between the splits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..base import Build, SourceError, SourceUnavailable, digest, flac
from .acoustics import recorded
from .voices import PACKAGES, Unspeakable, Voice, split_names

# a rendition is a speaker, a speed and a seed; speeds and seeds are never shared by the splits
SPEEDS = {"train": (0.8, 0.9, 1.0, 1.1, 1.25), "heldout": (0.95, 1.05, 1.18)}
FIRST_SEED = {"train": 0, "heldout": 1_000_000}
SPREAD = 0.04  # of a speed: between those of training there is room for the held-out ones
AUTO = "auto"
AUTO_HELDOUT = ("pico:en-GB", "flite:slt")  # another accent, and another way to make a voice
SILENCE = 1e-3  # of full scale


class Speaker(NamedTuple):
    """A voice at a pitch."""

    voice: Voice
    pitch: float

    @property
    def name(self) -> str:
        return self.voice.name + (f"@{self.pitch:g}" if self.pitch != 1 else "")


class Reading(NamedTuple):
    """One rendition of a text."""

    data: bytes  # FLAC
    about: dict[str, Any]  # facts for the meta
    license: str


@dataclass
class Readers:
    """The speakers of each split, and the share of training renditions put into rooms."""

    speakers: dict[str, list[Speaker]]
    augment: float
    build: Build

    @property
    def shared(self) -> bool:
        """Whether both splits have the same speakers."""
        return self.speakers["train"] == self.speakers["heldout"]

    def read(self, text: str, split: str, number: int, voice: str = "") -> Reading:
        """Return rendition `number` of a split.

        Texts start with different speakers, so that few renditions of each still hear all.

        Args:
            text: that is read.
            split: whose voices and speeds.
            number: of the rendition.
            voice: whose it is, by `Speaker.name`, instead of the next one's.

        Raises:
            Unspeakable: the voice of this rendition cannot read the text.
        """
        speakers, speeds = self.speakers[split], SPEEDS[split]
        turn, place = divmod(number, len(speakers))
        place = (place + digest(text)) % len(speakers)
        if voice:
            place = [speaker.name for speaker in speakers].index(voice)
        speaker = speakers[place]
        speed = _around(speeds[(turn + place) % len(speeds)], turn // len(speeds))
        seed = FIRST_SEED[split] + number
        wave = speaker.voice.speak(text, speed, speaker.pitch, seed)
        if np.abs(wave).max(initial=0) < SILENCE:
            raise Unspeakable(f"{speaker.name} is silent on {text!r}")
        about: dict[str, Any] = {"text": text, "speed": speed, "seed": seed, "voice": speaker.name}
        if not self.shared:
            about["unseen_voice"] = split == "heldout"
        if self.augment:
            rng = self.build.rng("augment", split, text, number)
            augmented = split == "train" and rng.random() < self.augment
            wave, about["augmented"] = recorded(wave, rng) if augmented else (wave, "")
        return Reading(flac(wave), about, speaker.voice.license)

    def note(self) -> None:
        """Add who reads to the facts and the licences of the build."""
        names = {split: [s.name for s in found] for split, found in self.speakers.items()}
        self.build.facts["voices"] = names["train"] if self.shared else names
        self.build.facts["speeds"] = {split: list(speeds) for split, speeds in SPEEDS.items()}
        self.build.facts["spread"] = SPREAD
        self.build.facts["first_seed"] = FIRST_SEED
        if self.shared:
            self.build.say("no voice is held out: held-out renditions differ by speed and seed")
        else:
            self.build.say("; ".join(f"{split}: {', '.join(names[split])}" for split in names))
        for speaker in (*self.speakers["train"], *self.speakers["heldout"]):
            self.build.licenses[PACKAGES[speaker.voice.engine]] = speaker.voice.license


def _around(speed: float, lap: int) -> float:
    """Return a speed, on every lap through all of them another one near it.

    A voice that ignores the seed would read the same again.
    """
    golden = 0.618_034  # its multiples are spread evenly over 0 to 1, however many there are
    return round(speed * (1 + SPREAD * ((golden * lap + 0.5) % 1 - 0.5)), 4)


def cast(voices: Sequence[Voice], heldout: str, augment: float, build: Build) -> Readers:
    """Divide the voices between the splits; a voice is held out at all of its pitches.

    Args:
        voices: that can be had.
        heldout: names of packages or voices that are never trained on; "auto": those of
            `AUTO_HELDOUT` that are there; "none" holds out by speed and seed alone.
        augment: share of the training renditions that are put into rooms with noise.
        build: whose seed decides.

    Raises:
        SourceError: the share is none, or no voice is left to train on.
        SourceUnavailable: a voice that is to be held out cannot be had.
    """
    if not 0 <= augment <= 1:
        raise SourceError(f"--augment {augment}: give a share from 0 to 1")
    out = _held_out(voices, heldout)
    train = [voice for voice in voices if voice not in out]
    if not train:
        raise SourceError(f"--heldout-voices {heldout} leaves no voice to train on")
    split = {"train": train, "heldout": out or train}
    return Readers({name: _speakers(found) for name, found in split.items()}, augment, build)


def _held_out(voices: Sequence[Voice], names: str) -> list[Voice]:
    if names == "none":
        return []
    if names == AUTO:
        out = [voice for voice in voices if voice.name in AUTO_HELDOUT]
        return out if len(out) < len(voices) else []
    wanted = split_names(names, "--heldout-voices")
    for name in wanted:
        if not any(name in (voice.name, voice.engine) for voice in voices):
            raise SourceUnavailable(
                f"--heldout-voices: {name} is not among the voices that can be had here: "
                + ", ".join(voice.name for voice in voices)
            )
    return [v for v in voices if v.name in wanted or v.engine in wanted]


def _speakers(voices: Sequence[Voice]) -> list[Speaker]:
    """Every voice as it is, then the voices at their other pitches."""
    most = max(len(voice.pitches) for voice in voices)
    return [Speaker(v, v.pitches[i]) for i in range(most) for v in voices if i < len(v.pitches)]
