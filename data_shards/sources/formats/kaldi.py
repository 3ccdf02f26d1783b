"""Speech with transcripts: Kaldi data folders (wav.scp, text) and other known layouts."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar

import soundfile

from omni.media.decode import LIMITS
from omni.processing.asking import ASK_TRANSCRIPT
from omni.processing.messages import assistant, audio, user

from ...shards.manifest import sha256
from ...shards.sample import Sample
from ..base import Build, SourceError, flac
from .attachments import Attachments, kind_of
from .convert import Converter, Input, RowError
from .encoding import lines, readable
from .places import load, walk
from .transcripts import transcripts

SPEAKERS = "utt2spk"
CHANNELS = "reco2file_and_channel"
READ = ("wav.scp", "text", "segments", SPEAKERS, CHANNELS)
APART = "separate channels, which are mixed into one; name one as the fifth word of a segment"


@dataclass(frozen=True, slots=True)
class _Cut:
    """An utterance: a whole recording, or `start` to `end` seconds of it, of one channel."""

    recording: str
    start: float = 0.0
    end: float | None = None
    channel: int | None = None


@dataclass
class Kaldi(Converter):
    """Speech with transcripts: a Kaldi folder (wav.scp, text), LibriSpeech's (*.trans.txt), Common
    Voice's (train.tsv, clips) or LJSpeech's (metadata.csv, wavs)."""

    data: Annotated[Path | None, "folder with wav.scp and text, or another layout; a .tsv"] = None
    ask: Annotated[str, "what is asked about each utterance"] = ASK_TRANSCRIPT

    name: ClassVar[str] = "kaldi"

    def inputs(self, build: Build) -> Iterator[Input]:
        """Yield every utterance; a speaker is in one split only where speakers are known."""
        if self.data is None:
            raise SourceError("kaldi needs --data FOLDER")
        if (self.data / "wav.scp").is_file():
            yield from self._kaldi(self.data, build)
            return
        for said in transcripts(self.data, build):
            make = partial(self._sample, said.utterance, str(said.sound), _Cut(""), said.text)
            yield Input(said.where, said.names, make)

    def _kaldi(self, root: Path, build: Build) -> Iterator[Input]:
        sounds = dict(_once(root / "wav.scp", build))
        speakers = dict(_once(root / SPEAKERS, build))
        cuts = dict(_segments(root, build))
        copies: dict[str, tuple[str, ...]] = {}
        said: set[str] = set()
        for where, utterance, text in _table(root / "text"):
            said.add(utterance)
            cut = cuts.get(utterance, _Cut(utterance))
            sound = sounds.get(cut.recording, "")
            speaker = speakers.get(utterance)
            # without speakers, what must not be torn apart is a recording, under any name
            if not speaker and cut.recording not in copies:
                copies[cut.recording] = (cut.recording, *_copy(root, sound))
            names = (f"speaker {speaker}",) if speaker else copies[cut.recording]
            yield Input(where, names, partial(self._sample, utterance, sound, cut, text, root))
        _untold(root, sounds, cuts, said, build)

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
        messages = [user(audio(part), self.ask), assistant(readable(text))]
        return Sample(messages, media.parts, {"kind": "transcription", "id": utterance})


def _untold(
    root: Path, sounds: dict[str, str], cuts: dict[str, _Cut], said: set[str], build: Build
) -> None:
    """Name segments and recordings without a transcript, and files that are not read."""
    for utterance in cuts.keys() - said:
        build.skip(f"segments: {utterance}", "text has no transcript of it")
    used = said | {cut.recording for cut in cuts.values()}
    for recording in sorted(sounds.keys() - used):
        build.skip(f"wav.scp: {recording}", "text has no transcript of it")
    mixed = {cut.recording for cut in cuts.values() if cut.channel is None}
    for recording in sorted(mixed & sounds.keys()):
        with suppress(RowError, OSError, soundfile.SoundFileError):
            if soundfile.info(_path(root, sounds[recording])).channels > 1:
                build.unused(APART, of="recording")
    known = {*READ, *(os.path.normpath(sound) for sound in sounds.values())}
    for path in walk(root):
        name = str(path.relative_to(root))
        if name not in known and str(path) not in known:
            build.unused(path.suffix.lower() if kind_of(name) else name, of="file")


def _table(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield ("FILE:line", first word, rest) of each line; a file that is not there is empty."""
    if path.is_file():
        for number, line in lines(path):
            name, *rest = line.split(maxsplit=1)
            yield f"{path.name}:{number}", name, rest[0].strip() if rest else ""
    elif path.name == "text":
        raise SourceError(f"{path}: no such file; it holds the transcripts")


def _once(path: Path, build: Build) -> Iterator[tuple[str, str]]:
    """Yield (first word, rest) of each line; a later line about the same is named."""
    seen: set[str] = set()
    for where, name, rest in _table(path):
        if name in seen:
            build.skip(where, f"an earlier line is about {name!r} too")
        else:
            seen.add(name)
            yield name, rest


def _segments(root: Path, build: Build) -> Iterator[tuple[str, _Cut]]:
    """Yield (utterance, its cut); a channel is that of the segment, else of its recording."""
    channels = {name: rest.split()[-1:] for name, rest in _once(root / CHANNELS, build)}
    for where, utterance, rest in _table(root / "segments"):
        try:
            recording, start, end, *last = rest.split()
            channel = _channel(*(last or channels.get(recording, [])))
            yield utterance, _Cut(recording, float(start), float(end), channel)
        except (TypeError, ValueError):
            build.skip(where, "a segment is UTTERANCE RECORDING START END, or CHANNEL after it")


def _channel(name: str = "") -> int | None:
    """Return the number of a channel, from 0: a segment has numbers, a recording A and B."""
    return "AB".index(name) if name in tuple("AB") else int(name) if name else None


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
            if cut.channel is None or file.channels == 1:
                return flac(wave.mean(axis=1), file.samplerate)
            if not 0 <= cut.channel < file.channels:
                raise RowError(f"{path.name} has {file.channels} channels, none is {cut.channel}")
            return flac(wave[:, cut.channel], file.samplerate)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise RowError(f"{path.name} is not readable audio: {error}") from error
