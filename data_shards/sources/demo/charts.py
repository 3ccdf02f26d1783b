"""Bar, line and pie charts and plain tables, and what can be read off them."""

import random
from collections.abc import Callable

from PIL import Image

from .drawing import FILLS, LIGHT, Easel, Page
from .forms import Fact, fact, near
from .tables import Table

SIDES = ((224, 224), (240, 240), (256, 208), (224, 192))  # (width, height); writing needs room
Draw = Callable[[Page, Table, random.Random], None]


def draw(table: Table, easel: Easel, rng: random.Random) -> tuple[str, Image.Image]:
    """Return the form that was drawn, and the picture."""
    forms = ["line", "bars", "table"] if table.ordered else ["bars", "rows", "pie", "table"]
    form = rng.choice(forms)
    page = easel.page(rng, rng.choice(SIDES))
    page.write((page.width / 2, 15), table.title, 19, room=page.width - 16)
    DRAW[form](page, table, rng)
    return form, page.image


def facts(table: Table, rng: random.Random) -> list[Fact]:
    """Return one fact of every kind that a chart shows, in random order."""
    values, names = table.values, list(table.values)
    name, other = rng.sample(names, 2)
    ranked = sorted(names, key=lambda n: values[n])
    number, difference = values[name], abs(values[name] - values[other])
    others = [values[n] for n in names if n != name]
    more, less = sorted((name, other), key=lambda n: -values[n])
    found = [
        fact("read", number, [*others, *near(number, rng)], name=name),
        fact("entry", name, [n for n in names if n != name], value=number),
        fact("most", ranked[-1], ranked[:-1]),
        fact("least", ranked[0], ranked[1:]),
        fact("apart", difference, near(difference, rng, least=1), name=name, other=other),
        fact("more", more, [less], name=name, other=other),
        fact("entries", len(names), [n for n in (2, 3, 4, 5, 6) if n != len(names)]),
    ]
    return rng.sample(found, len(found))


def _height(value: int, table: Table, low: float, high: float) -> float:
    return low + (high - low) * value / max(table.values.values())


def _bars(page: Page, table: Table, rng: random.Random) -> None:
    """Upright bars on one side or the other of the page, numbers above them."""
    left, bottom, width = rng.randint(10, 20), page.height - 26, page.width - 30
    step, fill = width / len(table.values), rng.choice(FILLS)
    for k, (name, value) in enumerate(table.values.items()):
        x, y = left + step * (k + 0.5), _height(value, table, bottom - 4, 52)
        half = step * rng.choice((0.26, 0.36))
        page.draw.rectangle((x - half, y, x + half, bottom), fill)
        page.write((x, y - 9), str(value), 15, room=step)
        page.write((x, bottom + 13), name, 14, room=step - 3)
    page.draw.line((left, bottom, left + width, bottom), page.ink, 1)


def _rows(page: Page, table: Table, rng: random.Random) -> None:
    """Lying bars, names before them and numbers behind them."""
    step, left = (page.height - 40) / len(table.values), page.width * 0.34
    for k, (name, value) in enumerate(table.values.items()):
        y, x = 34 + step * (k + 0.5), _height(value, table, left + 3, page.width - 46)
        page.draw.rectangle((left, y - step * 0.3, x, y + step * 0.3), FILLS[k])
        page.write((left - 5, y), name, 16, room=left - 8, anchor="r")
        page.write((x + 4, y), str(value), 16, anchor="l")


def _line(page: Page, table: Table, rng: random.Random) -> None:
    """A line with marks, on a faint grid."""
    bottom, step = page.height - 28, (page.width - 24) / len(table.values)
    fill = rng.choice(FILLS)
    for y in range(54, bottom, 34):
        page.draw.line((12, y, page.width - 12, y), "#cfcfcf", 1)
    points = [
        (12 + step * (k + 0.5), _height(value, table, bottom - 6, 58))
        for k, value in enumerate(table.values.values())
    ]
    page.draw.line(points, fill, 3)
    for (x, y), (name, value) in zip(points, table.values.items(), strict=True):
        page.draw.rectangle((x - 4, y - 4, x + 4, y + 4), fill)
        page.write((x, y - 13), str(value), 15, room=step)
        page.write((x, bottom + 14), name, 14, room=step - 3)


def _pie(page: Page, table: Table, rng: random.Random) -> None:
    """Slices from a random angle on, each with its name and number beside it in its colour."""
    total, angle = sum(table.values.values()), rng.uniform(0, 360)
    side = min(page.width * 0.5, page.height - 50)
    box = (page.width - side - 8, 36, page.width - 8, 36 + side)
    fills = rng.sample(FILLS, len(table.values))
    step = (page.height - 44) / len(table.values)
    for k, (name, value) in enumerate(table.values.items()):
        end = angle + 360 * value / total
        if end - angle >= 1:
            page.draw.pieslice(box, angle, end, fills[k], LIGHT)
        y, angle = 36 + step * (k + 0.5), end
        page.draw.ellipse((8, y - 6, 20, y + 6), fills[k])
        page.write((26, y), f"{name}: {value}", 15, room=box[0] - 30, anchor="l")


def _table(page: Page, table: Table, rng: random.Random) -> None:
    """Names at the left and numbers at the right, every second row shaded."""
    step, fill = (page.height - 38) / len(table.values), rng.choice(FILLS)
    for k, (name, value) in enumerate(table.values.items()):
        y = 34 + step * (k + 0.5)
        if k % 2 == 0:
            page.draw.rectangle((8, y - step / 2, page.width - 8, y + step / 2), fill)
        ink = LIGHT if k % 2 == 0 else page.ink
        page.write((18, y), name, 20, fill=ink, room=page.width * 0.55, anchor="l")
        page.write((page.width - 18, y), str(value), 20, fill=ink, anchor="r")


DRAW: dict[str, Draw] = {
    "bars": _bars, "rows": _rows, "line": _line, "pie": _pie, "table": _table,
}  # fmt: skip
