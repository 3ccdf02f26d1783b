"""Bar, line and pie charts, and ChartQA's questions about them: lookup and reasoning."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw

from ..rows.heldout import HeldOut
from .canvas import FILLS, INK, SIZE, WORDS, font, png, sheet
from .fresh import fresh

TOP, BOTTOM, LEFT = 44, SIZE - 30, 22
YEARS = [str(year) for year in range(2004, 2024)]


@dataclass(frozen=True)
class Chart:
    """Values by name, in drawing order, no two alike; `kind` is "bar", "line" or "pie"."""

    title: str
    values: dict[str, int]
    kind: str

    @property
    def highest(self) -> str:
        return max(self.values, key=lambda name: self.values[name])

    @property
    def lowest(self) -> str:
        return min(self.values, key=lambda name: self.values[name])


def make(rng: random.Random, kind: str, size: int = 4) -> Chart:
    """Random names (years for a line) and values; the shares of a pie sum to 100."""
    title = rng.choice(["Sales", "Visits", "Stock", "Output"])
    if kind == "line":
        start = rng.randrange(len(YEARS) - size)
        names = YEARS[start : start + size]
    else:
        names = rng.sample(WORDS, size)
    values = rng.sample(range(12, 98), size)
    while kind == "pie" and (sum(values[1:]) > 90 or 100 - sum(values[1:]) in values[1:]):
        values = rng.sample(range(6, 60), size)
    if kind == "pie":
        values[0] = 100 - sum(values[1:])
    return Chart(title, dict(zip(names, values, strict=True)), kind)


def paint(chart: Chart, rng: random.Random) -> Image.Image:
    """Draw it with its values written in."""
    picture = sheet(rng)
    draw, ink = ImageDraw.Draw(picture), rng.choice(INK)
    draw.text((SIZE / 2, 18), chart.title, font=font(20), anchor="mm", fill=ink)
    colours = rng.sample(FILLS, len(chart.values))
    {"bar": _bars, "line": _line, "pie": _pie}[chart.kind](draw, chart.values, colours, ink)
    return picture


def _bars(draw: ImageDraw.ImageDraw, values: dict[str, int], fills: list[str], ink: str) -> None:
    step = (SIZE - 2 * LEFT) / len(values)
    draw.line((LEFT, BOTTOM, SIZE - LEFT, BOTTOM), fill=ink, width=2)
    for k, (name, value) in enumerate(values.items()):
        x, height = LEFT + step * (k + 0.5), _height(value)
        draw.rectangle((x - step * 0.3, height, x + step * 0.3, BOTTOM - 1), fill=fills[k])
        draw.text((x, height - 9), str(value), font=font(14), anchor="mm", fill=ink)
        draw.text((x, BOTTOM + 12), name, font=font(13), anchor="mm", fill=ink)


def _line(draw: ImageDraw.ImageDraw, values: dict[str, int], fills: list[str], ink: str) -> None:
    step = (SIZE - 2 * LEFT) / len(values)
    points = [(LEFT + step * (k + 0.5), _height(v)) for k, v in enumerate(values.values())]
    draw.line((LEFT, BOTTOM, SIZE - LEFT, BOTTOM), fill=ink, width=2)
    draw.line(points, fill=fills[0], width=4)
    for (x, y), (name, value) in zip(points, values.items(), strict=True):
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=fills[0])
        draw.text((x, y - 14), str(value), font=font(14), anchor="mm", fill=ink)
        draw.text((x, BOTTOM + 12), name, font=font(13), anchor="mm", fill=ink)


def _pie(draw: ImageDraw.ImageDraw, values: dict[str, int], fills: list[str], ink: str) -> None:
    angle, total = -90.0, sum(values.values())
    for k, (name, value) in enumerate(values.items()):
        end = angle + 360 * value / total
        draw.pieslice((6, 66, 130, 190), angle, end, fill=fills[k], outline=ink)
        angle, y = end, 80 + 30 * k
        draw.rectangle((138, y - 7, 152, y + 7), fill=fills[k])
        draw.text((158, y), f"{name} {value}%", font=font(13), anchor="lm", fill=ink)


def _height(value: int) -> float:
    return BOTTOM - (BOTTOM - TOP - 18) * value / 100


def chartqa(held: HeldOut, rng: random.Random, units: int) -> list[dict[str, Any]]:
    """`units` questions, reasoning ("human") and lookup ("augmented") in turn."""

    def ask(number: int) -> tuple[Chart, str, str]:
        asks = (REASONING, LOOKUP)[number % 2]
        chart = make(rng, ("bar", "line", "pie")[number % 3])
        return chart, *asks[number // 2 % len(asks)](chart, rng)

    rows = []
    for number, (chart, question, answer) in fresh(units, ask, lambda made: {made[1:]}):
        half = ("human_test", "augmented_test")[number % 2]
        rows.append(
            {"type": half, "question": question, "answer": answer, "image": png(paint(chart, rng))}
        )
    return rows


Ask = Callable[[Chart, random.Random], tuple[str, str]]


def value(chart: Chart, rng: random.Random) -> tuple[str, str]:
    """Look one value up."""
    name = rng.choice(list(chart.values))
    return f"What is the value of {name}?", str(chart.values[name])


def named(chart: Chart, rng: random.Random) -> tuple[str, str]:
    """Look a name up by its value."""
    name = rng.choice(list(chart.values))
    return f"Which one has the value {chart.values[name]}?", name


def difference(chart: Chart, rng: random.Random) -> tuple[str, str]:
    """Subtract."""
    found = chart.values[chart.highest] - chart.values[chart.lowest]
    return "What is the difference between the highest and the lowest value?", str(found)


def greatest(chart: Chart, rng: random.Random) -> tuple[str, str]:
    """Compare all."""
    return "Which one has the highest value?", chart.highest


def total(chart: Chart, rng: random.Random) -> tuple[str, str]:
    """Add two."""
    one, two = rng.sample(list(chart.values), 2)
    return f"What is the sum of {one} and {two}?", str(chart.values[one] + chart.values[two])


def greater(chart: Chart, rng: random.Random) -> tuple[str, str]:
    """Compare two; which comes first in the question is drawn."""
    one, two = rng.sample(list(chart.values), 2)
    answer = "Yes" if chart.values[one] > chart.values[two] else "No"
    return f"Is the value of {one} greater than the value of {two}?", answer


LOOKUP: tuple[Ask, ...] = (value, named)
REASONING: tuple[Ask, ...] = (difference, greatest, total, greater)
