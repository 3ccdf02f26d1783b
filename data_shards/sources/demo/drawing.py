"""What training pictures are drawn with: pages, inks and fills, and the letters upon them.

The evaluation uses none of these fonts and colours; a test compares them.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ..base import SourceError, SourceUnavailable
from .debian import fetch_package

PACKAGES = {"fonts-dejavu-core": "Bitstream-Vera", "fonts-liberation": "OFL-1.1"}
SIDES = ((200, 200), (224, 224), (240, 240), (240, 180), (180, 240))  # (width, height)
INKS = ("#1c1c22", "#0a2a66", "#4a0d2b", "#0d3b2e", "#3a2a12")
PAPERS = ("#ffffff", "#f4f6f0", "#e6edf5", "#f5e8e0", "#e3f0e6", "#fff6d5")
FILLS = ("#d1495b", "#00798c", "#a8690b", "#3f8a63", "#4f6d9a", "#8d5a97", "#c66b3d", "#6c8f3c")
LIGHT = "#fafafa"  # letters on a fill
BITMAP = "Pillow's bitmap font"
_LINE = 11  # its height in pixels


@dataclass(frozen=True)
class Face:
    """A font file, or Pillow's bitmap font where `path` is None."""

    name: str
    path: Path | None = None

    def stencil(self, text: str, size: int) -> Image.Image:
        """Return the text as an L image of its own size, `size` being the font's in pixels."""
        font = _font(self.path, size)
        left, top, right, bottom = (int(edge) for edge in font.getbbox(text))
        # FreeType's edges may lie outside the box by a pixel
        image = Image.new("L", (right - left + 2, bottom - top + 2))
        ImageDraw.Draw(image).text((1 - left, 1 - top), text, 255, font)
        if self.path is not None:
            return image
        width, height = (max(1, side * size // _LINE) for side in image.size)
        return image.resize((width, height), Image.Resampling.BICUBIC)


@lru_cache(maxsize=256)
def _font(path: Path | None, size: int) -> Any:
    return ImageFont.truetype(path, size) if path else ImageFont.load_default_imagefont()


def faces(folder: Path | None, say: Callable[[str], None]) -> tuple[list[Face], dict[str, str]]:
    """Return the faces of a folder, or of Debian's packages, and the licence of each package.

    Where no package can be had it is Pillow's bitmap font, and one line says so.

    Raises:
        SourceError: the folder holds no font, or the font that the evaluation is drawn with.
    """
    if folder is not None:
        return _found(folder), {"fonts": "unknown"}
    try:
        roots = {package: fetch_package(package, say) for package in PACKAGES}
    except SourceUnavailable as error:
        first = str(error).partition("\n")[0]
        say(f"fonts: {first}; letters are drawn in {BITMAP} alone")
        return [Face(BITMAP)], {"fonts": "HPND"}
    return [face for root in roots.values() for face in _found(root)], PACKAGES


def _found(folder: Path) -> list[Face]:
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".ttf", ".otf"))
    named = {path: _named(_font(path, 20)) for path in paths}
    if not named:
        raise SourceError(f"--fonts {folder}: no .ttf or .otf file there or below")
    kept = _named(ImageFont.load_default(20))  # Pillow's own outline font
    if same := [path for path, name in named.items() if name[0] == kept[0]]:
        raise SourceError(
            f"--fonts: {same[0]} is {kept[0]}, in which the evaluation is drawn; take it out"
        )
    return [Face(" ".join(filter(None, name)), path) for path, name in named.items()]


def _named(font: Any) -> tuple[str | None, str | None]:
    """Family and style."""
    return font.getname()


@dataclass
class Page:
    """A picture being drawn, in one ink and one face."""

    image: Image.Image
    ink: str
    face: Face

    def __post_init__(self) -> None:
        self.draw = ImageDraw.Draw(self.image)

    @property
    def width(self) -> int:
        return self.image.width

    @property
    def height(self) -> int:
        return self.image.height

    def write(
        self, place: tuple[float, float], text: str, size: int, *, fill: str = "",
        room: float = 0, anchor: str = "m", turn: float = 0,
    ) -> None:  # fmt: skip
        """Write with the middle at `place` (anchor m), or its left (l) or right (r) edge there.

        Args:
            place: x, y in pixels.
            text: one line.
            size: of the font, in pixels; smaller where the text is wider than `room`.
            fill: colour, the page's ink if not given.
            room: most pixels of its width; 0: any.
            anchor: see above.
            turn: degrees, anticlockwise.
        """
        mask = self.face.stencil(text, size)
        while room and mask.width > room and size > 8:
            size -= 1
            mask = self.face.stencil(text, size)
        if turn:
            mask = mask.rotate(turn, Image.Resampling.BICUBIC, expand=True)
        x = place[0] - {"l": 0, "m": mask.width / 2, "r": mask.width}[anchor]
        self.image.paste(fill or self.ink, (round(x), round(place[1] - mask.height / 2)), mask)


class Easel:
    """Gives pages of drawn size, paper, ink and face."""

    def __init__(self, faces: list[Face]):
        self.faces = faces

    def page(self, rng: random.Random, side: tuple[int, int] | None = None) -> Page:
        """Return an empty page."""
        image = Image.new("RGB", side or rng.choice(SIDES), rng.choice(PAPERS))
        return Page(image, rng.choice(INKS), rng.choice(self.faces))
