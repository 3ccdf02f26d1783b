"""English words and sentences that people read, split by speaker: for evaluation."""

import gzip
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple

import numpy as np

from omni.nearest import nearest
from omni.processing.asking import ASK_TRANSCRIPT
from omni.processing.messages import assistant, audio, user

from ...shards.sample import Sample
from ..base import RATE, Build, SourceError, SourceUnavailable, digest, facts, flac
from .debian import fetch_package
from .words import DAYS, MONTHS, NUMBERS

ASTERISK = "usr/share/asterisk/sounds/en_US_f_Allison"
ASTERISK_TEXTS = "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
LONGEST = 12  # seconds
SPELLING = {
    "broccolli": "broccoli", "sphynx": "sphinx", "palmtree": "palm tree", "zed": "Z",
    "fallingstar": "falling star", "exclaimation-point": "exclamation point",
    "fourtieth": "fortieth", "represenatives": "representatives", "umute": "unmute",
    "un-indentified": "unidentified", "witheld": "withheld",
}  # fmt: skip
ALIKE = {"for": "four", "oh": "O", "eye": "I"}  # words that no ear tells from another one here
SOUNDS = {"aw", "ch", "th"}  # of letters in klettres: they have no spelling of their own
PROPER = {word.lower(): word for word in DAYS + MONTHS}
_ASIDE = re.compile(r"\[[^]]*]|\([^)]*\)|<[^>]*>")
_WORD = re.compile(r"[A-Za-z]+(['-][a-z]+)*")
_UNREADABLE = re.compile(r"[^A-Za-z\s.,:;?!'\"/-]|\b[A-Z]{2,}\b")  # 3D, #, PBX


class Recording(NamedTuple):
    """What a speaker read, and where it is."""

    name: str
    text: str
    path: Path


@dataclass(frozen=True)
class Corpus:
    """Recordings of one speaker, in Debian packages."""

    packages: tuple[str, ...]
    license: str
    find: Callable[[list[Path]], Iterator[Recording]]


@dataclass
class Recordings:
    """Words and sentences that people read: whole speakers are held out, by default all of them."""

    path: Annotated[
        Path | None, "folder with the unpacked packages; otherwise fetched from Debian"
    ] = None
    train_speakers: Annotated[
        str, "of them, comma-separated: trained on and not evaluated on, whatever --heldout says"
    ] = ""

    name: ClassVar[str] = "recordings"
    licenses: ClassVar[dict[str, str]] = {}

    def generate(self, build: Build) -> Iterator[Sample]:
        """Yield each recording as a transcription, in an order by the seed."""
        trained = [name.strip() for name in self.train_speakers.split(",") if name.strip()]
        for name in trained:
            if name not in SPEAKERS:
                raise SourceError(f"--train-speakers: no {name!r}; {nearest(name, SPEAKERS)}")
        found = dict(self._corpora(build))
        if not found:
            raise SourceUnavailable("none of the recordings can be had; see the lines above")
        if absent := [name for name in trained if name not in found]:
            raise SourceUnavailable(f"--train-speakers: {', '.join(absent)} cannot be had here")
        build.facts["speakers"] = {
            "train": trained, "heldout": [name for name in found if name not in trained]
        }  # fmt: skip
        build.licenses.update({name: SPEAKERS[name].license for name in found})
        named = [(speaker, one) for speaker, many in found.items() for one in many]
        named.sort(key=lambda pair: digest(build.seed, pair[0], pair[1].name))
        build.total = len(named)
        for speaker, recording in named:
            try:
                yield _sample(speaker, recording, trained)
            except ValueError as error:
                build.skip(f"{speaker}: {recording.name}", str(error))

    def _corpora(self, build: Build) -> Iterator[tuple[str, list[Recording]]]:
        for name, corpus in SPEAKERS.items():
            try:
                roots = [self.path] if self.path else [
                    fetch_package(package, build.say, "--path DIR") for package in corpus.packages
                ]  # fmt: skip
            except SourceUnavailable as error:
                build.say(f"the speaker {name} is left out: {error}")
                continue
            if found := list(corpus.find(roots)):
                yield name, found
            else:
                build.say(
                    f"the speaker {name} is left out: no recording of {corpus.packages[0]} under "
                    + ", ".join(map(str, roots))
                )


def readable(text: str) -> str:
    """Return what is said where it is certain: no remarks, spelt rightly, digits as words.

    Raises:
        ValueError: nothing is said, or the text leaves open how it is read.
    """
    text = " ".join(_ASIDE.sub(" ", text).split()).strip(" .…")
    if not re.search(r"[A-Za-z0-9]", text):
        raise ValueError("no speech")
    text = re.sub(r"(?<![\w.])\d(?![\w.]*\d|\w)", lambda digit: NUMBERS[int(digit[0])], text)
    words = [SPELLING.get(word.lower(), word) for word in text.split()]
    text = " ".join(words)
    if unclear := _UNREADABLE.search(text):
        raise ValueError(f"{text[:60]!r} leaves open how {unclear[0]!r} is read")
    if not _WORD.fullmatch(text.rstrip("!?")):
        return text
    word = text.rstrip("!?")
    if len(word) == 1:
        return word.upper()
    return PROPER.get(word.lower(), word.lower())


def _sample(speaker: str, recording: Recording, trained: list[str]) -> Sample:
    """Raises ValueError where there is nothing to learn or to ask; says why."""
    text = readable(recording.text)
    if text in ALIKE:
        raise ValueError(f"{text!r} sounds like {ALIKE[text]!r}")
    wave = _decode(recording.path)
    if len(wave) > LONGEST * RATE:
        raise ValueError(f"longer than {LONGEST} s")
    kind = "human_word" if _WORD.fullmatch(text) else "human_sentence"
    meta = facts(
        "recordings", SPEAKERS[speaker].license, kind, speaker=speaker, category=speaker,
        identity=f"{speaker}:{recording.name}", text=text, answer=text, train_speakers=trained,
    )  # fmt: skip
    messages = [user(audio("aud0.flac"), ASK_TRANSCRIPT), assistant(text)]
    split = "train" if speaker in trained else "heldout"
    return Sample(messages, {"aud0.flac": flac(wave)}, meta, split=split)


def _decode(path: Path) -> np.ndarray:
    """Return the wave (samples,) at RATE. Raises ValueError where it cannot be read."""
    from omni.media.decode import load_audio

    if path.suffix != ".g722":
        return load_audio(path)
    import av

    # bare codes without a header, so nothing can guess the format; always at RATE
    with av.open(str(path), format="g722") as file:
        frames = [frame.to_ndarray().ravel() for frame in file.decode(audio=0)]
    if not frames:
        raise ValueError("it holds no sound")
    return np.concatenate(frames).astype(np.float32) / 2**15


def _asterisk(roots: list[Path]) -> Iterator[Recording]:
    texts = next((r / ASTERISK_TEXTS for r in roots if (r / ASTERISK_TEXTS).is_file()), None)
    sounds = next((r / ASTERISK for r in roots if (r / ASTERISK).is_dir()), None)
    if texts is None or sounds is None:
        return
    for line in gzip.decompress(texts.read_bytes()).decode().splitlines():
        name, colon, text = line.partition(":")
        path = sounds / f"{name.strip()}.g722"
        if colon and not line.startswith(";") and path.is_file():
            yield Recording(name.strip(), text, path)


def _ktuberling(roots: list[Path]) -> Iterator[Recording]:
    for path in sorted(roots[0].glob("usr/share/ktuberling/sounds/en/*.ogg")):
        yield Recording(path.stem, path.stem.rpartition("_")[2], path)  # egypt_palmtree


def _klettres(language: str) -> Callable[[list[Path]], Iterator[Recording]]:
    def find(roots: list[Path]) -> Iterator[Recording]:
        for path in sorted((roots[0] / "usr/share/klettres" / language).glob("*/*.ogg")):
            if path.stem not in SOUNDS:
                yield Recording(f"{path.parent.name}/{path.stem}", path.stem, path)

    return find


SPEAKERS = {
    "asterisk-us": Corpus(
        ("asterisk-core-sounds-en", "asterisk-core-sounds-en-g722"), "CC-BY-SA-3.0", _asterisk
    ),
    "ktuberling": Corpus(("ktuberling-data",), "GPL-2.0-or-later", _ktuberling),
    "klettres-us": Corpus(("klettres-data",), "GPL-2.0-or-later", _klettres("en")),
    "klettres-gb": Corpus(("klettres-data",), "GPL-2.0-or-later", _klettres("en_GB")),
}
