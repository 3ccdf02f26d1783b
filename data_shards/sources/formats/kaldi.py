"""Speech with transcripts: Kaldi data folders (wav.scp, text) and LibriSpeech's layout."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar

import soundfile

from omni.media.decode import LIMITS
from omni.processing.messages import assistant, audio, user

from ...shards.manifest import sha256
from ...shards.sample import Sample
from ..base import Build, SourceError, flac
from ..questions import ASK_TRANSCRIPT
from .attachments import Attachments, load
from .convert import Converter, Input, RowError

SUFFIXES = (".flac", ".wav", ".mp3", ".ogg", ".opus")


@dataclass(frozen=True, slots=True)
class _Cut:
    """An utterance: a whole recording, or `start` to `end` seconds of it."""

    recording: str
    start: float = 0.0
    end: float | None = None


@dataclass
class Kaldi(Converter):
    """Speech with transcripts: a Kaldi folder (wav.scp, text) or LibriSpeech's (*.trans.txt)."""

    data: Annotated[Path | None, "folder with wav.scp and text, or above *.trans.txt"] = None
    ask: Annotated[str, "what is asked about each utterance"] = ASK_TRANSCRIPT

    name: ClassVar[str] = "kaldi"

    def inputs(self, build: Build) -> Iterator[Input]:
        """Yield every utterance; a speaker is in one split only where speakers are known."""
        if self.data is None:
            raise SourceError("kaldi needs --data FOLDER")
        if (self.data / "wav.scp").is_file():
            yield from self._kaldi(self.data, build)
            return
        transcripts = sorted(self.data.rglob("*.trans.txt"))
        if not transcripts:
            raise SourceError(f"--data {self.data}: neither wav.scp nor any *.trans.txt there")
        for path in transcripts:  # SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt
            for where, utterance, text in _table(path):
                found = (path.with_name(utterance + suffix) for suffix in SUFFIXES)
                sound = next((p for p in found if p.is_file()), path.with_name(f"{utterance}.flac"))
                make = partial(self._sample, utterance, str(sound), _Cut(""), text)
                yield Input(where, (f"speaker {utterance.split('-')[0]}",), make)

    def _kaldi(self, root: Path, build: Build) -> Iterator[Input]:
        sounds = {name: rest for _, name, rest in _table(root / "wav.scp")}
        speakers = {name: rest for _, name, rest in _table(root / "utt2spk")}
        cuts = dict(_segments(root / "segments", build))
        copies: dict[str, tuple[str, ...]] = {}
        for where, utterance, text in _table(root / "text"):
            cut = cuts.get(utterance, _Cut(utterance))
            sound = sounds.get(cut.recording, "")
            speaker = speakers.get(utterance)
            # without speakers, what must not be torn apart is a recording, under any name
            if not speaker and cut.recording not in copies:
                copies[cut.recording] = (cut.recording, *_copy(root, sound))
            names = (f"speaker {speaker}",) if speaker else copies[cut.recording]
            yield Input(where, names, partial(self._sample, utterance, sound, cut, text, root))

    def _sample(
        self, utterance: str, sound: str, cut: _Cut, text: str, root: Path = Path()
    ) -> Sample:
        if not sound:
            raise RowError(f"wav.scp has no recording {cut.recording or utterance!r}")
        path = _path(root, sound)
        media = Attachments()
        data = load(path, "audio") if cut.end is None else _excerpt(path, cut)
        part = media.add("audio", data, path.name)
        if not text:
            raise RowError("the transcript is empty")
        messages = [user(audio(part), self.ask), assistant(text)]
        return Sample(messages, media.parts, {"kind": "transcription", "id": utterance})


def _table(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield ("FILE:line", first word, rest) of each line; a file that is not there is empty."""
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                name, *rest = line.split(maxsplit=1)
                yield f"{path.name}:{number}", name, rest[0].strip() if rest else ""
    elif path.name == "text":
        raise SourceError(f"{path}: no such file; it holds the transcripts")


def _segments(path: Path, build: Build) -> Iterator[tuple[str, _Cut]]:
    for where, utterance, rest in _table(path):
        try:
            recording, start, end = rest.split()
            yield utterance, _Cut(recording, float(start), float(end))
        except ValueError:
            build.skip(where, "a segment is UTTERANCE RECORDING START END")


def _path(root: Path, sound: str) -> Path:
    if sound.endswith("|"):
        raise RowError(f"{sound!r} is a command, which is never run; write its output to a file")
    for path in (root / sound, Path(sound)):  # Kaldi means the working folder
        if path.is_file():
            return path
    raise RowError(f"recording {sound!r} is not there")


def _copy(root: Path, sound: str) -> tuple[str, ...]:
    try:
        return (sha256(_path(root, sound)),)
    except (RowError, OSError):  # named when the sample is made
        return ()


def _excerpt(path: Path, cut: _Cut) -> bytes:
    """Cut an utterance out of a recording of any length, at the rate of the recording."""
    start, end = cut.start, cut.end or 0.0
    if not 0 <= start < end <= start + LIMITS.max_seconds:
        raise RowError(f"{start} to {end} s is no segment of up to {LIMITS.max_seconds:g} s")
    try:
        with soundfile.SoundFile(path) as file:
            first, count = round(start * file.samplerate), round((end - start) * file.samplerate)
            if first >= file.frames:
                raise RowError(f"{path.name} ends before the segment starts, at {start} s")
            file.seek(first)
            wave = file.read(count, dtype="float32", always_2d=True)  # (samples, channels)
            return flac(wave.mean(axis=1), file.samplerate)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise RowError(f"{path.name} is not readable audio: {error}") from error
