"""Tux Paint's stamps: photographs and drawings with captions, and some captions read by people."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from PIL import Image

from omni.processing.messages import assistant, audio, user

from ...shards.sample import Sample
from ..base import Build, Groups, SourceError, facts, flac, jpeg
from ..questions import ALL_KINDS, ASK_TRANSCRIPT, Picture
from . import pictures
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
LONGEST_SIDE = 384
LOOK_ALIKE_BITS = (
    10  # of 256: recoloured traffic lights and a mirrored b are within, two lions are not
)
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
    licenses: ClassVar[dict[str, str]] = {"tuxpaint-stamps": "GPL-2.0"}

    def generate(self, build: Build) -> Iterator[Sample]:
        """Yield pictures (train, heldout) and human recordings (heldout-human)."""
        root = self.path or fetch_package(PACKAGE, build.say, "--path")
        root = next((p for p in (root, root / "usr/share/tuxpaint/stamps") if _has_stamps(p)), None)
        if root is None:
            raise SourceError(
                f"{self.path} holds none of the folders {', '.join(CATEGORIES)}; give the folder "
                "usr/share/tuxpaint/stamps of the Debian package"
            )
        images = _images(root, build, self.limit)
        identity = _identities(images)
        found = [
            (Picture(identity[name], CATEGORIES[name.split("/")[0]], caption), jpeg(picture))
            for name, caption, picture in images
        ]
        licence = self.licenses["tuxpaint-stamps"]
        yield from pictures.samples(
            self.name, licence, found, build, self.variants, self.turns, self.kinds
        )
        yield from _human_speech(root, licence, build, self.limit)


def _has_stamps(path: Path) -> bool:
    return any((path / folder).is_dir() for folder in CATEGORIES)


def _caption(path: Path) -> str:
    """Return the first English sentence of a stamp's text file ("" if there is none)."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    text = " ".join(text.partition("\n")[0].split())
    text = text.translate({0x201C: '"', 0x201D: '"', 0x2018: "'", 0x2019: "'"})
    return re.split(r"(?<=[.!?])\s", text)[0]


def _images(root: Path, build: Build, limit: int) -> list[tuple[str, str, Image.Image]]:
    """Load every PNG with a caption as (name without extension, caption, small RGB image).

    The SVG stamps are left out: rendering them takes a library that nothing else here needs.
    """
    from omni.media.decode import (
        MediaError,
    )  # here, because torch behind it takes seconds to import

    images = []
    for folder in CATEGORIES:
        for path in sorted((root / folder).rglob("*.png")):
            name = str(path.relative_to(root).with_suffix(""))
            caption = _caption(path.with_suffix(".txt"))
            if not caption:
                build.skip(name, "no caption")
                continue
            try:
                images.append((name, caption, _small(path)))
            except MediaError as error:
                build.skip(name, str(error))
    if limit:  # evenly over the folders, not just the first one
        images = [images[i * len(images) // limit] for i in range(min(limit, len(images)))]
    return images


def _small(path: Path) -> Image.Image:
    from omni.media.decode import load_image

    image = load_image(path)
    longest = max(image.size)
    if longest <= LONGEST_SIDE:
        return image
    size = [max(1, round(side * LONGEST_SIDE / longest)) for side in image.size]
    return image.resize((size[0], size[1]), Image.Resampling.BICUBIC, reducing_gap=2.0)


def _bits(image: Image.Image) -> np.ndarray:
    """Return (256,) bits: where brightness rises from left to right on a 16 x 17 grid."""
    grid = np.asarray(image.convert("L").resize((17, 16), Image.Resampling.BOX), dtype=int)
    return (grid[:, 1:] > grid[:, :-1] + 2).ravel()


def _identities(images: list[tuple[str, str, Image.Image]]) -> dict[str, str]:
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


def _human_speech(root: Path, licence: str, build: Build, limit: int) -> Iterator[Sample]:
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
            "stamps", licence, "human_speech", identity=f"{name}_desc", text=caption, answer=caption
        )
        messages = [user(audio("aud0.flac"), ASK_TRANSCRIPT), assistant(caption)]
        yield Sample(messages, {"aud0.flac": data}, meta, split="heldout-human")
