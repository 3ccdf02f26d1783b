"""Synthetic speech: any column of text read aloud, and spoken questions about images."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np

from omni.processing.messages import assistant, audio, image, user

from ...read.entry import find_shards, read_shard
from ...shards.sample import Sample
from ..base import RATE, Build, Deck, SourceError, SourceUnavailable, digest, facts, flac
from ..questions import ASK_CAPTION, ASK_CATEGORY, ASK_TRANSCRIPT, ASK_YES_NO, with_article
from .from_shards import captioned
from .words import WORDS

LICENSE = "Apache-2.0"
# a rendition is a speed and a noise seed; neither is ever shared between the splits
SPEEDS = {"train": (0.8, 0.9, 1.0, 1.1, 1.25), "heldout": (0.95, 1.05, 1.18)}
FIRST_SEED = {"train": 0, "heldout": 1_000_000}
MAX_CHARACTERS = 200


@dataclass
class Speech:
    """Speech by hibari-tts: transcription of a text column, and spoken questions about images."""

    text: Annotated[
        str,
        "what is read: a file with a phrase a line, a shards folder (its captions), "
        "'words' (40 everyday words), or 'none'",
    ] = "words"
    questions: Annotated[Path | None, "shards folder whose images are asked about"] = None
    renditions: Annotated[int, "training renditions of each phrase"] = 12
    heldout_renditions: Annotated[int, "held-out renditions of each phrase"] = 3
    per_image: Annotated[int, "spoken questions about each training image"] = 2
    heldout_per_image: Annotated[int, "spoken questions about each held-out image"] = 2

    name: ClassVar[str] = "speech"
    licenses: ClassVar[dict[str, str]] = {"hibari-tts": LICENSE}

    def generate(self, build: Build) -> Iterator[Sample]:
        """Yield spoken questions, then transcriptions, both splits of each.

        In this order, because HF `load_dataset` takes the columns from the first samples of a
        shard, and transcriptions lack the image.
        """
        phrases = self._phrases(build)
        pictures = captioned(self.questions, "--questions", build) if self.questions else {}
        speaker = Speaker()
        build.facts["voices"] = speaker.names
        build.facts["speeds"] = {split: list(speeds) for split, speeds in SPEEDS.items()}
        build.facts["first_seed"] = FIRST_SEED
        renditions = {"train": self.renditions, "heldout": self.heldout_renditions}
        asked = {"train": self.per_image, "heldout": self.heldout_per_image}
        build.total = sum(asked[split] * len(found) for split, found in pictures.items())
        build.total += len(phrases) * sum(renditions.values())
        for split, found in pictures.items():
            yield from _questions(speaker, split, found, asked[split], renditions[split], build)
        for split, count in renditions.items():
            for phrase in phrases:
                for number in range(count):
                    yield _transcription(speaker, split, phrase, number)

    def _phrases(self, build: Build) -> list[str]:
        if self.text == "none":
            return []
        if self.text == "words":
            return list(WORDS)
        path = Path(self.text).expanduser()
        if path.is_dir():
            samples = (s for shard in find_shards(path) for s in read_shard(shard))
            lines = [str(sample.meta.get("caption", "")) for sample in samples]
        elif path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
        else:
            raise SourceError(f"--text {self.text!r} is no file or folder, nor 'words' or 'none'")
        phrases = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
        for phrase in phrases:
            if len(phrase) > MAX_CHARACTERS:
                build.skip(f"{path.name}: {phrase[:40]!r}...", f"over {MAX_CHARACTERS} characters")
        phrases = [phrase for phrase in phrases if len(phrase) <= MAX_CHARACTERS]
        if not phrases:
            raise SourceError(f"--text {path} holds no phrase to read")
        return phrases


class Speaker:
    """The voices inside the hibari-tts package; each (text, rendition) is synthesised once."""

    def __init__(self):
        voices = _voices()
        self.names, self._voices = list(voices), list(voices.values())
        self._spoken: dict[tuple[str, str, int], tuple[bytes, dict[str, Any]]] = {}

    def say(self, text: str, split: str, number: int) -> tuple[bytes, dict[str, Any]]:
        """Return (FLAC bytes, meta facts) of rendition `number` of a split."""
        if (text, split, number) not in self._spoken:
            speeds = SPEEDS[split]
            speed, seed = speeds[number % len(speeds)], FIRST_SEED[split] + number
            voice = number // len(speeds) % len(self._voices)
            wave = self._voices[voice](text, speed=speed, seed=seed)
            about = {"text": text, "speed": speed, "seed": seed, "voice": self.names[voice]}
            self._spoken[text, split, number] = (flac(_resample(wave)), about)
        return self._spoken[text, split, number]


@cache
def _voices() -> dict[str, Any]:
    try:
        from hibari import Hibari
        from hibari.voices import VOICES
    except ImportError as error:
        raise SourceUnavailable(
            "speech needs the package hibari-tts, which is not installed: "
            "pip install 'omni-stages[speech]'"
        ) from error
    # only what is in the package: the other voices would be downloaded
    return {name: Hibari(voice=name) for name, voice in VOICES.items() if voice.get("bundled")}


def _resample(wave: np.ndarray) -> np.ndarray:
    import torch
    import torchaudio.functional
    from hibari import SAMPLE_RATE

    return torchaudio.functional.resample(torch.from_numpy(wave), SAMPLE_RATE, RATE).numpy()


def _transcription(speaker: Speaker, split: str, text: str, number: int) -> Sample:
    data, about = speaker.say(text, split, number)
    # what is held out is the rendition, so that is the identity
    identity = f"{text} ({about['voice']}, speed {about['speed']}, seed {about['seed']})"
    more = {"answer": text, "identity": identity, "category": ""}
    meta = facts("speech", LICENSE, "transcription", **about, **more)
    messages = [user(audio("aud0.flac"), ASK_TRANSCRIPT), assistant(text)]
    return Sample(messages, {"aud0.flac": data}, meta, split=split)


def _questions(
    speaker: Speaker, split: str, pictures: list[Sample], each: int, renditions: int, build: Build
) -> Iterator[Sample]:
    """Yield `each` questions per image: kinds in equal parts, Yes and No in equal parts.

    Held-out images are asked for their category or a yes or no; training ones also "What is
    this?". The rendition is drawn among those of the split.
    """
    rng = build.rng("spoken", split)
    kinds = ("category", "yes_no") if split == "heldout" else ("category", "yes_no", "caption")
    verdicts = Deck(("Yes", "No"), rng)
    pictures = sorted(pictures, key=lambda sample: digest(build.seed, sample.meta["identity"]))
    for turn in range(each):
        for index, picture in enumerate(pictures):
            kind, meta = kinds[(index + turn) % len(kinds)], picture.meta
            if kind == "yes_no":
                answer = verdicts.draw()
                noun = (
                    meta["category"] if answer == "Yes" else _wrong_category(picture, pictures, rng)
                )
                question = ASK_YES_NO[0].format(thing=with_article(noun))
            else:
                question = ASK_CATEGORY[0] if kind == "category" else ASK_CAPTION[0]
                answer = meta[kind]
            data, about = speaker.say(question, split, int(rng.integers(renditions)))
            (name, media), licence = (
                next(iter(picture.parts.items())),
                meta.get("license", "unknown"),
            )
            more = {"answer": answer, "identity": meta["identity"], "category": meta["category"]}
            row = facts("speech", f"{licence} and {LICENSE}", "spoken_question", **about, **more)
            messages = [user(image(name), audio("aud0.flac")), assistant(answer)]
            yield Sample(messages, {name: media, "aud0.flac": data}, row, split=split)


def _wrong_category(picture: Sample, pictures: list[Sample], rng: np.random.Generator) -> str:
    # the category of another image, so that a noun is asked about as often in vain as rightly
    others = [
        p.meta["category"] for p in pictures if p.meta["category"] != picture.meta["category"]
    ]
    if not others:
        raise SourceError("yes/no questions need images of at least two categories")
    return others[rng.integers(len(others))]
