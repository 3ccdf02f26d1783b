"""Diagrams: boxes in a ring or in a row, joined by arrows one way or the other."""

import math
import random
from collections.abc import Sequence

from PIL import Image

from .drawing import FILLS, LIGHT, Easel, Page
from .forms import Fact, fact

SIZES = (3, 4, 5)  # boxes


def draw(steps: Sequence[str], easel: Easel, rng: random.Random) -> tuple[str, Image.Image]:
    """Draw the steps in their order, the last leading to the first in a ring; return its form."""
    form = rng.choice(("ring", "column"))
    page = easel.page(rng, (240, 240))
    fill, middle = rng.choice(FILLS), page.width / 2
    if form == "ring":
        turn, way = rng.uniform(0, math.tau), rng.choice((-1, 1))
        angles = [turn + way * math.tau * k / len(steps) for k in range(len(steps))]
        places = [(middle + 78 * math.cos(a), middle + 88 * math.sin(a)) for a in angles]
    else:
        rows = [24 + 192 * k / (len(steps) - 1) for k in range(len(steps))]
        lean = rng.choice((-9, 0, 9))
        places = [(middle + lean * (k - 2), y) for k, y in enumerate(rows)]
        if rng.random() < 0.5:
            places.reverse()
    ends = places[1:] + (places[:1] if form == "ring" else [])
    for start, end in zip(places, ends, strict=False):
        _arrow(page, start, end)
    for place, name in zip(places, steps, strict=True):
        x, y = place
        page.draw.rectangle((x - 36, y - 14, x + 36, y + 14), fill)
        page.write(place, name, 18, fill=LIGHT, room=68)
    return form, page.image


def _arrow(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """A line with its head near the middle, where no box hides it."""
    page.draw.line((*start, *end), page.ink, 2)
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    x, y = (start[0] * 0.45 + end[0] * 0.55), (start[1] * 0.45 + end[1] * 0.55)
    turns = (0, 2.4, -2.4)
    head = [(x + 8 * math.cos(angle + t), y + 8 * math.sin(angle + t)) for t in turns]
    page.draw.polygon(head, page.ink)


def facts(steps: Sequence[str], rng: random.Random) -> list[Fact]:
    """Return one fact of every kind, in random order."""
    at = rng.randrange(len(steps) - 1)
    one, two = steps[at], steps[at + 1]
    found = [
        fact("next", two, [step for step in steps if step not in (one, two)], name=one),
        fact("before", one, [step for step in steps if step not in (one, two)], name=two),
        fact("boxes", len(steps), [n for n in (2, 3, 4, 5, 6) if n != len(steps)]),
    ]
    return rng.sample(found, len(found))
