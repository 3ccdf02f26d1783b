"""What one sees at a place of a route: four drawn views in a grid, front, right; back, left."""

import math
from collections.abc import Callable

from PIL import Image, ImageDraw

from ..sources.base import png
from .cities import FORMS, City
from .streets import Step, turned

FACING = ((0, 0, 0), (90, 1, 0), (180, 0, 1), (-90, 1, 1))
"""degrees from the heading, column and row of each view"""
SCALE = 2  # drawn larger and shrunk, because PIL's edges are jagged
HORIZON = 0.55
Points = list[tuple[float, float]]


def views(step: Step, city: City, side: int) -> bytes:
    """Return a PNG of side × side. Streets lead ahead and back, at crossings to the sides too."""
    half = side // 2
    grid = Image.new("RGB", (side, side), "black")  # what is left between the views is the line
    gap = max(1, side // 150)
    for degrees, column, row in FACING:
        view = _view(step, city, degrees, half - gap)
        grid.paste(view, (column * (half + gap), row * (half + gap)))
    return png(grid)


def _view(step: Step, city: City, degrees: int, side: int) -> Image.Image:
    size = side * SCALE
    image = Image.new("RGB", (size, size), city.sky)
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, HORIZON * size, size, size), city.ground)
    if step.node.crossing or degrees % 180 == 0:
        _street(pen, city, size)
    else:
        _houses(pen, city, size, 0, 1)
    if step.node.landmark:
        angle = turned(degrees, turned(step.heading, step.node.bearing))
        if -45 < angle <= 45:  # each direction is in one view
            name = step.node.landmark.removeprefix("the ")
            middle = (0.5 + angle / 150) * size, HORIZON * size
            LANDMARKS[name](
                pen, *middle, 0.3 * size, city.marks[FORMS.index(name) % len(city.marks)]
            )
    return image.resize((side, side), Image.Resampling.BOX)


def _street(pen: ImageDraw.ImageDraw, city: City, size: int) -> None:
    """A street to the horizon, with houses on both sides."""
    _houses(pen, city, size, 0, 0.3)
    _houses(pen, city, size, 0.7, 1)
    h = HORIZON * size
    pen.polygon([(0.44 * size, h), (0.56 * size, h), (0.95 * size, size), (0.05 * size, size)],
                city.road)  # fmt: skip
    pen.polygon([(0.495 * size, h), (0.505 * size, h), (0.53 * size, size), (0.47 * size, size)],
                city.line)  # fmt: skip


def _houses(pen: ImageDraw.ImageDraw, city: City, size: int, left: float, right: float) -> None:
    count = max(1, round((right - left) * 6))
    width = (right - left) / count
    for i in range(count):
        x, top = left + i * width, (0.33, 0.4, 0.28, 0.36)[i % 4]
        box = (x * size, top * size, (x + width) * size - 2, HORIZON * size)
        pen.rectangle(box, city.walls[i % len(city.walls)])


Draw = Callable[[ImageDraw.ImageDraw, float, float, float, str], None]
"""pen; x of the middle, y of the foot, height and colour of a landmark"""


def _outlined(*outlines: Points) -> Draw:
    """Draw polygons given in units of the height, from the middle of the foot upwards."""

    def draw(pen: ImageDraw.ImageDraw, x: float, y: float, height: float, ink: str) -> None:
        for outline in outlines:
            pen.polygon([(x + a * height, y - b * height) for a, b in outline], ink, "black")

    return draw


def _box(left: float, right: float, top: float, foot: float = 0) -> Points:
    return [(left, foot), (right, foot), (right, top), (left, top)]


def _arc(radius: float, middle: float, start: float = 0, end: float = 180) -> Points:
    angles = [math.radians(start + (end - start) * i / 24) for i in range(25)]
    return [(radius * math.cos(a), middle + radius * math.sin(a)) for a in angles]


def _arms(width: float, length: float, middle: float) -> list[Points]:
    found = []
    for turn in range(4):
        c, s = math.cos(math.pi * (turn / 2 + 0.25)), math.sin(math.pi * (turn / 2 + 0.25))
        corners = [(0, -width), (length, -width), (length, width), (0, width)]
        found.append([(a * c - b * s, middle + a * s + b * c) for a, b in corners])
    return found


def _wheel(pen: ImageDraw.ImageDraw, x: float, y: float, height: float, ink: str) -> None:
    _outlined([(-0.3, 0), (0, 0.6), (0.3, 0)])(pen, x, y, height, ink)
    r, middle = 0.42 * height, y - 0.58 * height
    box = (x - r, middle - r, x + r, middle + r)
    pen.ellipse(box, outline=ink, width=max(2, round(0.13 * height)))


LANDMARKS: dict[str, Draw] = {
    "tower": _outlined(_box(-0.14, 0.14, 0.85), [(-0.2, 0.85), (0.2, 0.85), (0, 1.15)]),
    "dome": _outlined(_box(-0.4, 0.4, 0.35), _arc(0.36, 0.35)),
    "pyramid": _outlined([(-0.55, 0), (0.55, 0), (0, 0.85)]),
    "arch": _outlined([*_arc(0.45, 0.4), (-0.45, 0), (-0.22, 0), *_arc(0.22, 0.4, 180, 0),
                       (0.22, 0), (0.45, 0)]),
    "windmill": _outlined([(-0.22, 0), (0.22, 0), (0.12, 0.75), (-0.12, 0.75)],
                          *_arms(0.06, 0.5, 0.7)),
    "church": _outlined(_box(-0.1, 0.5, 0.35), _box(-0.4, -0.1, 0.6),
                        [(-0.45, 0.6), (-0.05, 0.6), (-0.25, 1.1)]),
    "stairs": _outlined([(-0.5, 0), (0.5, 0), (0.5, 0.9), (0.2, 0.9), (0.2, 0.6), (-0.1, 0.6),
                         (-0.1, 0.3), (-0.5, 0.3)]),
    "wheel": _wheel,
}  # fmt: skip
