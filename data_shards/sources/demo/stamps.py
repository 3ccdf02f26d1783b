"""Tux Paint's stamps: photographs and drawings with captions, and some captions read by people."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from PIL import Image

from omni.processing.asking import ASK_TRANSCRIPT
from omni.processing.messages import assistant, audio, user

from ...shards.sample import Sample
from ..base import Build, Groups, SourceError, facts, flac, jpeg
from ..questions import ALL_KINDS, Picture
from . import captioned
from .debian import fetch_package

PACKAGE = "tuxpaint-stamps-default"
# the eight largest top folders, and the word a person would answer with
CATEGORIES = {
    "animals": "animal",
    "symbols": "symbol",
    "town": "landmark",
    "food": "food",
    "seasonal": "decoration",
    "plants": "plant",
    "vehicles": "vehicle",
    "household": "tool",
}
LICENCE = "GPL-2.0"
LOOK_ALIKE_BITS = (
    10  # of 256: recoloured traffic lights and a mirrored b are within, two lions are not
)
Named = tuple[str, str, Image.Image]
"""where a picture is, its caption, and the picture"""
_COPY = re.compile(r"[-_](mirror|flip|mirrored|flipped|left|right)$")


@dataclass
class Stamps:
    """Tux Paint stamps: captions, categories, yes/no, caption matching, multiple choice."""

    path: Annotated[Path | None, "unpacked stamps folder; otherwise fetched from Debian"] = None
    variants: Annotated[int, "conversations per training image"] = 6
    turns: Annotated[int, "questions per conversation"] = 3
    kinds: Annotated[str, "of the questions, comma-separated"] = ALL_KINDS
    limit: Annotated[int, "use only so many images (0: all)"] = 0

    name: ClassVar[str] = "stamps"
    licenses: ClassVar[dict[str, str]] = {"tuxpaint-stamps": LICENCE}

    def generate(self, build: Build) -> Iterator[Sample]:
        """Yield pictures (train, heldout) and human recordings (heldout-human)."""
        root = find_stamps(self.path, build)
        images = load_stamps(root, CATEGORIES, build, self.limit)
        identity = identities(images)
        found = [
            (Picture(identity[name], category_of(name, CATEGORIES), caption, LICENCE), jpeg(image))
            for name, caption, image in images
        ]
        yield from captioned.samples(self.name, found, build, self.variants, self.turns, self.kinds)
        yield from human_speech(self.name, root, build, self.limit)


def find_stamps(path: Path | None, build: Build) -> Path:
    """Return the folder of the stamps: `path`, or below it, or fetched from Debian.

    Raises:
        SourceError: there are none at `path`; SourceUnavailable: they cannot be fetched.
    """
    root = path or fetch_package(PACKAGE, build.say, "--path DIR")
    for folder in (root, root / "usr/share/tuxpaint/stamps"):
        if _has_stamps(folder):
            return folder
    raise SourceError(
        f"{root} holds none of the folders {', '.join(CATEGORIES)}; give the folder "
        "usr/share/tuxpaint/stamps of the Debian package"
    )


def category_of(name: str, categories: Mapping[str, str]) -> str:
    """Return the category of a stamp from its top folder."""
    return categories[name.partition("/")[0]]


def _has_stamps(path: Path) -> bool:
    return any((path / folder).is_dir() for folder in CATEGORIES)


def _caption(path: Path) -> str:
    """Return the first English sentence of a stamp's text file ("" if there is none)."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    text = " ".join(text.partition("\n")[0].split())
    text = text.translate({0x201C: '"', 0x201D: '"', 0x2018: "'", 0x2019: "'"})
    return re.split(r"(?<=[.!?])\s", text)[0]


def load_stamps(root: Path, folders: Iterable[str], build: Build, limit: int) -> list[Named]:
    """Load every PNG with a caption as (name without extension, caption, small RGB image).

    The SVG stamps are left out: rendering them takes a library that nothing else here needs.
    """
    from omni.media.decode import MediaError

    images = []
    for folder in folders:
        for path in sorted((root / folder).rglob("*.png")):
            name = str(path.relative_to(root).with_suffix(""))
            caption = _caption(path.with_suffix(".txt"))
            if not caption:
                build.skip(name, "no caption")
                continue
            try:
                images.append((name, caption, captioned.small(path)))
            except MediaError as error:
                build.skip(name, str(error))
    return captioned.evenly(images, limit)


def _bits(image: Image.Image) -> np.ndarray:
    """Return (256,) bits: where brightness rises from left to right on a 16 x 17 grid."""
    grid = np.asarray(image.convert("L").resize((17, 16), Image.Resampling.BOX), dtype=int)
    return (grid[:, 1:] > grid[:, :-1] + 2).ravel()


def identities(images: list[Named]) -> dict[str, str]:
    """Map each image to its identity: the first of the images that show the very same thing.

    The same picture under two names, mirrored, or recoloured must not be trained on under one
    name and tested under the other. So files of one name, "_mirror" copies and look-alikes in
    either direction share an identity, transitively.
    """
    names = [name for name, _, _ in images]
    bits = np.array([_bits(image) for *_, image in images])
    flipped = [_bits(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) for *_, image in images]
    groups, stems = Groups(), {}
    for i, name in enumerate(names):
        groups.join(name, stems.setdefault(_COPY.sub("", name), name))
        for mine in (bits[i], flipped[i]):
            for j in np.flatnonzero((bits[:i] != mine).sum(axis=1) <= LOOK_ALIKE_BITS):
                groups.join(name, names[j])
    return {name: groups.find(name) for name in names}


def human_speech(source: str, root: Path, build: Build, limit: int) -> Iterator[Sample]:
    """Yield the captions that people read in English; for evaluation only."""
    from omni.media.decode import MediaError, load_audio

    recordings = sorted(root.rglob("*_desc.ogg"))
    for path in recordings[:limit] if limit else recordings:
        name = str(path.relative_to(root)).removesuffix("_desc.ogg")
        caption = _caption(root / f"{name}.txt")
        if not caption:
            build.skip(f"{name}_desc.ogg", "no caption")
            continue
        try:
            data = flac(load_audio(path))
        except MediaError as error:
            build.skip(f"{name}_desc.ogg", str(error))
            continue
        meta = facts(
            source, LICENCE, "human_speech", identity=f"{name}_desc", text=caption, answer=caption
        )
        messages = [user(audio("aud0.flac"), ASK_TRANSCRIPT), assistant(caption)]
        yield Sample(messages, {"aud0.flac": data}, meta, split="heldout-human")
