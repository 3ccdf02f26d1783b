"""Synthetic speech: texts read aloud by many voices, and spoken questions about images."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from omni.nearest import nearest
from omni.processing.asking import ASK_IMITATE, ASK_REPEAT, ASK_SAY, ASK_TRANSCRIPT
from omni.processing.messages import Message, assistant, audio, user

from ...read.entry import find_shards, read_shard
from ...shards.sample import Sample
from ..base import Build, SourceError, facts
from . import sentences, spoken
from .from_shards import captioned
from .readers import AUTO, Readers, cast
from .voices import ENGINES, Unspeakable, find_voices
from .words import RECORDED, WORDS

MAX_CHARACTERS = 200
RENDITIONS = {"train": 12, "heldout": 3}
OF_SENTENCES = {"train": 2, "heldout": 1}
LISTS = {"none": (), "words": WORDS, "words:all": tuple(dict.fromkeys(WORDS + RECORDED))}
SENTENCES = "sentences"
TASKS = ("transcribe", "say", "repeat", "imitate")


@dataclass
class Speech:
    """Synthetic speech: transcription of texts, and spoken questions about images."""

    text: Annotated[
        str,
        "what is read: a file with a phrase a line, a shards folder (its captions), 'words' (40 "
        "everyday words), 'words:all' (and those of the source recordings), 'sentences', or 'none'",
    ] = "words"
    questions: Annotated[Path | None, "shards folder whose images are asked about"] = None
    renditions: Annotated[
        int | None, "training renditions of each phrase; 12, of sentences 2 if not given"
    ] = None
    heldout_renditions: Annotated[
        int | None, "held-out renditions of each phrase; 3, of sentences 1 if not given"
    ] = None
    per_image: Annotated[int, "spoken questions about each training image"] = 2
    heldout_per_image: Annotated[int, "spoken questions about each held-out image"] = 2
    task: Annotated[
        str,
        "transcribe: a rendition is heard, its words are the answer; say: the words are asked for, "
        "and the answer is them and a rendition; repeat: both; imitate: say, in the voice of "
        "another clip",
    ] = "transcribe"
    voices: Annotated[
        str,
        "packages or voices, comma-separated, such as pico or pico:en-US, with all pitches of a "
        "voice, or pico:en-US@1 with that alone; those that cannot be had are left out",
    ] = ",".join(ENGINES)
    heldout_voices: Annotated[
        str,
        "voices that only held-out renditions have; auto: pico:en-GB and flite:slt where they are "
        "among the voices; none: other speeds and seeds alone",
    ] = AUTO
    augment: Annotated[float, "share of the training renditions put into a room with noise"] = 0.0
    sentences: Annotated[int, "sentences that --text sentences makes"] = 3_000
    captions: Annotated[
        Path | None, "shards folder whose captions --text sentences reads too, split as there"
    ] = None

    name: ClassVar[str] = "speech"
    licenses: ClassVar[dict[str, str]] = {}  # of the voices that read

    def generate(self, build: Build) -> Iterator[Sample]:
        """Yield spoken questions, then transcriptions, both splits of each.

        In this order, because HF `load_dataset` takes the columns from the first samples of a
        shard, and transcriptions lack the image.
        """
        if self.task not in TASKS:
            raise SourceError(f"--task {self.task!r}: {nearest(self.task, TASKS)}")
        phrases = self._phrases(build)
        pictures = captioned(self.questions, "--questions", build) if self.questions else {}
        readers = cast(
            find_voices(self.voices, build.say), self.heldout_voices, self.augment, build
        )
        readers.note()
        renditions = self._renditions()
        asked = {"train": self.per_image, "heldout": self.heldout_per_image}
        build.total = sum(asked[split] * len(found) for split, found in pictures.items())
        build.total += sum(count * len(phrases[split]) for split, count in renditions.items())
        for split, found in pictures.items():
            yield from spoken.questions(
                readers, split, found, asked[split], renditions[split], build
            )
        for split, count in renditions.items():
            texts = [*phrases[split]]
            for at, (phrase, category) in enumerate(phrases[split].items()):
                for number in range(count):
                    # another one for each rendition; itself if it is alone
                    ahead = 1 + number % max(1, len(texts) - 1)
                    other = texts[(at + ahead) % len(texts)]
                    try:
                        yield self._transcription(readers, split, phrase, category, number, other)
                    except Unspeakable as error:
                        build.skip(f"{split} rendition {number}", str(error))

    def _renditions(self) -> dict[str, int]:
        usual = OF_SENTENCES if self.text == SENTENCES else RENDITIONS
        given = {"train": self.renditions, "heldout": self.heldout_renditions}
        return {split: usual[split] if n is None else n for split, n in given.items()}

    def _phrases(self, build: Build) -> dict[str, dict[str, str]]:
        """Return the phrases of each split with their category; only sentences have one."""
        if self.text == SENTENCES:
            return sentences.split(self.sentences, self.captions, build)
        if self.captions:
            raise SourceError("--captions goes with --text sentences; --text FOLDER reads captions")
        phrases = LISTS[self.text] if self.text in LISTS else _lines(self.text, build)
        return dict.fromkeys(("train", "heldout"), dict.fromkeys(phrases, ""))

    def _transcription(
        self, readers: Readers, split: str, text: str, category: str, number: int, other: str
    ) -> Sample:
        data, about, licence = readers.read(text, split, number)
        files = {"aud0.flac": data}
        if self.task == "imitate":
            shown = readers.read(other, split, number, about["voice"])
            files["aud1.flac"], about["imitates"] = shown.data, other
        if self.text == SENTENCES:
            kind, identity = "sentence", text
        else:  # what is held out is the rendition, so that is the identity
            kind = "transcription"
            identity = f"{text} ({about['voice']}, speed {about['speed']}, seed {about['seed']})"
        if self.task != "transcribe":
            kind = self.task
        more = {"answer": text, "identity": identity, "category": category}
        meta = facts("speech", licence, kind, **about, **more)
        return Sample(self._messages(text), files, meta, split=split)

    def _messages(self, text: str) -> list[Message]:
        heard = audio("aud0.flac")
        if self.task == "transcribe":
            return [user(heard, ASK_TRANSCRIPT), assistant(text)]
        asked = {
            "say": [ASK_SAY.format(text=text)], "repeat": [heard, ASK_REPEAT],
            "imitate": [audio("aud1.flac"), ASK_IMITATE.format(text=text)],
        }  # fmt: skip
        return [user(*asked[self.task]), assistant(text, heard)]


def _lines(text: str, build: Build) -> list[str]:
    path = Path(text).expanduser()
    if path.is_dir():
        samples = (s for shard in find_shards(path) for s in read_shard(shard))
        lines = [str(sample.meta.get("caption", "")) for sample in samples]
    elif path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
    else:
        known = ", ".join(map(repr, (*LISTS, SENTENCES)))
        raise SourceError(f"--text {text!r} is no file or folder, nor one of {known}")
    phrases = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    for phrase in phrases:
        if len(phrase) > MAX_CHARACTERS:
            build.skip(f"{path.name}: {phrase[:40]!r}...", f"over {MAX_CHARACTERS} characters")
    phrases = [phrase for phrase in phrases if len(phrase) <= MAX_CHARACTERS]
    if not phrases:
        raise SourceError(f"--text {path} holds no phrase to read")
    return phrases
