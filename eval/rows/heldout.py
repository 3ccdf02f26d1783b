"""What the model never saw: pictures and recordings from the held-out shards of a data folder."""

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_shards.shards.manifest import read_manifest, split_digest
from omni.generation.thinking import without_thinking
from omni.processing.messages import media_refs

TRANSCRIPTS = ("transcription", "sentence", "human_speech", "human_word", "human_sentence")
"""kinds of samples whose answer is what was said"""
SPOKEN_ANSWERS = ("say", "repeat", "imitate")
"""kinds of samples whose answer is spoken"""
SPOKEN_KINDS = (*TRANSCRIPTS, "spoken_question", *SPOKEN_ANSWERS)
ASKED_KINDS = ("easyvqa_open", "photo")  # of sets that have rows of their own
PROCEDURAL = "shapes"  # used only where no real pictures are held out


@dataclass(frozen=True)
class Picture:
    """One held-out image, once, however many samples ask about it.

    Images of one identity show the same thing (mirrored, recoloured).
    """

    identity: str
    category: str
    caption: str
    data: bytes
    where: str  # shard:key


@dataclass
class HeldOut:
    """Pictures of one source, spoken and other samples by kind, a digest of every byte read."""

    pictures: list[Picture] = field(default_factory=list)
    source: str = ""  # whose pictures these are
    spoken: dict[str, list[Any]] = field(default_factory=dict)  # kind -> data_shards Samples
    asked: dict[str, list[Any]] = field(default_factory=dict)  # the same of ASKED_KINDS
    digest: str = ""
    root: Path = Path()

    @property
    def label(self) -> str:
        """One phrase for the reader of a table: what the figures were made on."""
        if not self.pictures:
            return "no held-out pictures"
        kind = "procedural scenes, NOT real pictures" if self.source == PROCEDURAL else "pictures"
        return f"{len(self.pictures)} held-out {kind} ({self.source})"


def heldout_shards(data: Path) -> list[Path]:
    """DATA/heldout-*.tar and DATA/*/heldout-*.tar.

    Raises:
        FileNotFoundError: there is none; says how to build one.
    """
    shards = sorted({*data.glob("heldout-*.tar"), *data.glob("[!.]*/heldout-*.tar")})  # no builds
    if not shards:
        raise FileNotFoundError(
            f"{data}: no heldout-*.tar here or one folder below; build some with "
            f"`omni-shards build stamps --out {data / 'stamps'} --heldout 0.15`"
        )
    return shards


def load_heldout(data: Path) -> HeldOut:
    """Read every held-out shard of a folder.

    Raises:
        FileNotFoundError: see `heldout_shards`.
    """
    shards = heldout_shards(data)
    from data_shards.read.entry import read_shard

    held = HeldOut(root=data, digest=digest_of(shards))
    by_source: dict[str, dict[bytes, Picture]] = {}
    heard: set[tuple] = set()  # two sets made of one source hold the same recordings
    for shard in shards:
        for sample in read_shard(shard):
            kind, source = sample.meta.get("kind", ""), sample.meta.get("source", "")
            if kind in SPOKEN_KINDS:
                if (content := (kind, *sample.parts.values())) not in heard:
                    heard.add(content)
                    held.spoken.setdefault(kind, []).append(sample)
            elif kind in ASKED_KINDS:  # no picture of the rows that compare pictures
                held.asked.setdefault(kind, []).append(sample)
            elif picture := _picture(sample, shard):
                by_source.setdefault(source, {}).setdefault(picture.data, picture)
    if by_source:
        held.source = max(by_source, key=lambda s: (s != PROCEDURAL, len(by_source[s]), s))
        pictures = by_source[held.source].values()
        held.pictures = sorted(pictures, key=lambda picture: (picture.identity, picture.where))
    for samples in held.spoken.values():
        samples.sort(key=lambda sample: sample.key)
    return held


def refuse_other_split(parts: dict[str, dict[str, str]], data: Path) -> None:
    """Compare what `data` holds out with what was held out from the checkpoint's training.

    Args:
        parts: `config.parts` of the checkpoint.
        data: the folder that `load_heldout` reads, or other data of which nothing is known.

    Raises:
        ValueError: a source is held out here by another split, so some of it was trained on.
    """
    here: dict[str, set[str]] = {}
    shards = {*data.glob("heldout-*.tar"), *data.glob("[!.]*/heldout-*.tar")}
    for folder in sorted({shard.parent for shard in shards}):
        if manifest := read_manifest(folder):
            here.setdefault(manifest.get("source", ""), set()).add(split_digest(manifest))
    for name, part in parts.items():
        for source, _, digest in (s.partition(":") for s in part.get("split", "").split(", ")):
            if digest and source in here and digest not in here[source]:
                raise ValueError(
                    f"{data} holds out other samples of {source!r} than the checkpoint's {name} "
                    "did: some were trained on. Evaluate with the data folder of its training, or "
                    "build the shards again with that seed and share."
                )


def _picture(sample: Any, shard: Path) -> Picture | None:
    meta = sample.meta
    images = [ref for kind, ref in media_refs(sample.messages) if kind == "image"]
    if len(images) != 1 or not meta.get("category") or not meta.get("identity"):
        return None
    return Picture(
        str(meta["identity"]),
        str(meta["category"]),
        str(meta.get("caption", "")),
        sample.parts[images[0]],
        f"{shard.name}:{sample.key}",
    )


def digest_of(files: Iterable[Path]) -> str:
    """Of every byte of some files."""
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            whole.update(hashlib.file_digest(stream, "sha256").digest())
    return whole.hexdigest()


def prompt_and_expected(sample: Any) -> tuple[list[dict[str, Any]], str]:
    """Everything before the last assistant message, and that message's text.

    Without its thinking, which is taken out of the model's answers, too.
    """
    *prompt, last = sample.messages
    if last["role"] != "assistant" or not prompt:
        raise ValueError(f"{sample.key}: a held-out sample must end with the assistant's answer")
    text = " ".join(part["text"] for part in last["content"] if part["type"] == "text")
    return prompt, without_thinking(text)


def question_text(messages: Sequence[dict[str, Any]]) -> str:
    """The text parts of the first user message."""
    first = next(turn for turn in messages if turn["role"] == "user")
    return " ".join(part["text"] for part in first["content"] if part["type"] == "text").strip()


def derangement(identities: Sequence[str], seed: int) -> list[int]:
    """Whose medium each sample gets instead of its own: never one of the same identity.

    A permutation, so that every medium is used as often as before; where one identity holds more
    than half of the samples there is none, and each draws freely among the others. Categories are
    ignored: a model that reads the wrong medium well scores about the sum of squared shares.

    Raises:
        ValueError: all samples have the same identity.
    """
    n, rng = len(identities), random.Random(seed)
    most = max(Counter(identities).values(), default=0)
    if most == n:
        raise ValueError(f"all {n} samples are of one identity; there is nothing to exchange")
    if 2 * most > n:
        others = {name: [j for j in range(n) if identities[j] != name] for name in set(identities)}
        return [rng.choice(others[name]) for name in identities]
    order = rng.sample(range(n), n)
    for _ in range(100):
        clashes = [i for i in range(n) if identities[i] == identities[order[i]]]
        if not clashes:
            return order
        for i in clashes:
            j = rng.randrange(n)
            order[i], order[j] = order[j], order[i]
    # Rotating samples sorted by identity by the largest count never clashes, but is less random.
    ranked = sorted(range(n), key=lambda i: identities[i])
    for position, i in enumerate(ranked):
        order[i] = ranked[(position + most) % n]
    return order
