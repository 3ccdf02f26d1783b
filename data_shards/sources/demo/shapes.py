"""Procedural scenes of one coloured shape: pictures for machines that can download nothing."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from PIL import Image, ImageDraw

from ...shards.sample import Sample
from ..base import Build, SourceError, jpeg
from ..questions import ALL_KINDS, Picture, with_article
from . import captioned

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "diamond")
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 160, 60),
    "blue": (40, 80, 220),
    "yellow": (240, 205, 30),
    "orange": (245, 130, 20),
    "purple": (140, 50, 180),
    "pink": (245, 130, 180),
    "brown": (125, 75, 35),
    "black": (20, 20, 20),
    "gray": (130, 130, 130),
}
SIZES = {"small": 0.16, "medium": 0.25, "large": 0.34}  # radius as a share of the side
PLACES = {f"{y}-{x}": (x, y) for x in (0.38, 0.5, 0.62) for y in (0.38, 0.5, 0.62)}
BACKGROUNDS = ("white", (235, 240, 250), (250, 245, 230), (225, 240, 225), (245, 225, 230))
SIDE = 192


@dataclass
class Shapes:
    """Procedural scenes, one shape each; no download at all."""

    count: Annotated[int, "images"] = 480
    variants: Annotated[int, "conversations per training image"] = 6
    turns: Annotated[int, "questions per conversation"] = 3
    kinds: Annotated[str, "of the questions, comma-separated"] = ALL_KINDS

    name: ClassVar[str] = "shapes"
    licenses: ClassVar[dict[str, str]] = {"shapes": "Apache-2.0"}

    def generate(self, build: Build) -> Iterator[Sample]:
        """Yield pictures; the identity is shape, colour, size and place, not the background."""
        combinations = [
            (shape, colour, size, place)
            for colour in COLOURS
            for size in SIZES
            for place in PLACES
            for shape in SHAPES
        ]
        if not 0 < self.count <= len(combinations):
            raise SourceError(f"--count {self.count}: give 1 to {len(combinations)} images")
        # shapes vary fastest above; shuffling whole rows of eight keeps them equally frequent
        rows = build.rng("scenes").permutation(len(combinations) // len(SHAPES))
        order = [int(row) * len(SHAPES) + column for row in rows for column in range(len(SHAPES))]
        found, licence = [], self.licenses["shapes"]
        for number in order[: self.count]:
            shape, colour, size, place = combinations[number]
            background = BACKGROUNDS[build.rng("background", number).integers(len(BACKGROUNDS))]
            identity, caption = f"{size}-{colour}-{shape}-{place}", _caption(colour, shape)
            picture = Picture(identity, shape, caption, licence)
            found.append((picture, jpeg(draw(shape, colour, size, place, background))))
        yield from captioned.samples(self.name, found, build, self.variants, self.turns, self.kinds)


def _caption(colour: str, shape: str) -> str:
    return f"{with_article(f'{colour} {shape}').capitalize()}."


def draw(
    shape: str, colour: str, size: str, place: str, background: str | tuple[int, int, int]
) -> Image.Image:
    """Draw one shape; drawn large and shrunk, because PIL's edges are jagged."""
    scale = 2
    image = Image.new("RGB", (SIDE * scale, SIDE * scale), background)
    x, y = (share * SIDE * scale for share in PLACES[place])
    radius = SIZES[size] * SIDE * scale
    pen, fill = ImageDraw.Draw(image), COLOURS[colour]
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "circle":
        pen.ellipse(box, fill)
    elif shape == "ring":
        pen.ellipse(box, outline=fill, width=int(radius * 0.35))
    else:
        pen.polygon([(x + radius * a, y + radius * b) for a, b in OUTLINES[shape]], fill)
    return image.resize((SIDE, SIDE), Image.Resampling.BOX)


def _star() -> list[tuple[float, float]]:
    turns = [math.pi * (i / 5 - 0.5) for i in range(10)]
    lengths = [1.0, 0.42] * 5
    return [(r * math.cos(t), r * math.sin(t)) for r, t in zip(lengths, turns, strict=True)]


def _heart() -> list[tuple[float, float]]:
    turns = [2 * math.pi * i / 60 for i in range(60)]
    return [
        (math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t)) / 16)
        for t in turns
    ]


def _cross(arm: float) -> list[tuple[float, float]]:
    quarter = [(-arm, -1.0), (arm, -1.0), (arm, -arm)]
    half = quarter + [(-y, x) for x, y in quarter]
    return half + [(-x, -y) for x, y in half]


OUTLINES = {
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": [(0, -1), (0.95, 0.75), (-0.95, 0.75)],
    "diamond": [(0, -1), (0.7, 0), (0, 1), (-0.7, 0)],
    "cross": _cross(0.34),
    "star": _star(),
    "heart": _heart(),
}
