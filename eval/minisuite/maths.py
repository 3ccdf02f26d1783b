"""MathVista's shape: geometry and plots, with whole numbers, decimals, lists and choices."""

import random
from collections.abc import Callable
from typing import Any

from PIL import ImageDraw

from ..rows.heldout import HeldOut
from . import charts
from .canvas import FILLS, INK, SIZE, font, png, sheet
from .fresh import fresh


def mathvista(held: HeldOut, rng: random.Random, units: int) -> list[dict[str, Any]]:
    """`units` problems, the sorts below in turn; right choices take every position in turn."""

    def make(number: int) -> dict[str, Any]:
        return PROBLEMS[number % len(PROBLEMS)](rng, number // len(PROBLEMS))

    rows = []
    for number, made in fresh(units, make, _about):
        choices = made.get("choices")
        rows.append(
            {
                "pid": str(number + 1),
                "question": made["question"],
                "image": f"images/{number + 1}.png",
                "decoded_image": png(made["picture"]),
                "choices": choices,
                "unit": made.get("unit"),
                "precision": made.get("precision"),
                "answer": made["answer"],
                "question_type": "multi_choice" if choices else "free_form",
                "answer_type": made.get("type", "text"),
                "metadata": _metadata(made["task"], made["skill"]),
                "query": made["question"],
            }
        )
    return rows


def _about(made: dict[str, Any]) -> set[Any]:
    choices = frozenset(made.get("choices") or ())
    return {(made["question"], made["answer"], made.get("drawn"), choices)}


def _metadata(task: str, skill: str) -> dict[str, Any]:
    return {
        "category": "math-targeted-vqa",
        "context": "synthetic scene",
        "grade": "not applicable",
        "img_height": SIZE,
        "img_width": SIZE,
        "language": "english",
        "skills": [skill],
        "source": "mini",
        "split": "testmini",
        "task": task,
    }


GEOMETRY = {"task": "geometry problem solving", "skill": "geometry reasoning"}
FIGURE = {"task": "figure question answering", "skill": "statistical reasoning"}


def rectangle(rng: random.Random, turn: int) -> dict[str, Any]:
    """The area from two sides."""
    wide, high = rng.randrange(6, 15), rng.randrange(3, 9)
    picture = sheet(rng)
    draw, ink = ImageDraw.Draw(picture), rng.choice(INK)
    x, y = wide * 7, high * 7
    draw.rectangle((128 - x, 128 - y, 128 + x, 128 + y), outline=ink, width=3)
    draw.text((128, 128 + y + 16), str(wide), font=font(22), anchor="mm", fill=ink)
    draw.text((128 - x - 16, 128), str(high), font=font(22), anchor="mm", fill=ink)
    question = "What is the area of the rectangle?"
    return GEOMETRY | {
        "picture": picture, "question": question, "answer": str(wide * high), "type": "integer"
    }  # fmt: skip


def angle(rng: random.Random, turn: int) -> dict[str, Any]:
    """The third angle of a triangle, as a choice."""
    one, two = rng.randrange(35, 75), rng.randrange(35, 75)
    right = 180 - one - two
    picture = sheet(rng)
    draw, ink = ImageDraw.Draw(picture), rng.choice(INK)
    draw.polygon([(30, 210), (226, 210), (130, 40)], outline=ink, width=3)
    labels = {(72, 196): f"{one}°", (184, 196): f"{two}°", (130, 82): "x"}
    for place, text in labels.items():
        draw.text(place, text, font=font(20), anchor="mm", fill=ink)
    choices = around(right, rng, turn)
    return GEOMETRY | {
        "picture": picture, "question": "What is the angle x in degrees?",
        "answer": str(right), "choices": choices,
    }  # fmt: skip


def count(rng: random.Random, turn: int) -> dict[str, Any]:
    """Dots on a grid."""
    number = rng.randrange(3, 10)
    picture = sheet(rng)
    draw, fill = ImageDraw.Draw(picture), rng.choice(FILLS)
    cells = rng.sample(range(16), number)
    for cell in cells:
        x, y = 40 + 58 * (cell % 4), 40 + 58 * (cell // 4)
        draw.ellipse((x - 18, y - 18, x + 18, y + 18), fill=fill)
    return {
        "task": "math word problem", "skill": "arithmetic reasoning", "picture": picture,
        "question": "How many dots are there?", "answer": str(number), "type": "integer",
        "drawn": frozenset(cells),
    }  # fmt: skip


def mean(rng: random.Random, turn: int) -> dict[str, Any]:
    """The mean of a bar chart, one decimal."""
    chart = charts.make(rng, "bar")
    found = f"{sum(chart.values.values()) / len(chart.values):.1f}"
    return _figure(chart, rng, "What is the mean of all values?", found, "float", 1)


def fraction(rng: random.Random, turn: int) -> dict[str, Any]:
    """The share of a slice, two decimals."""
    chart = charts.make(rng, "pie")
    name = rng.choice(list(chart.values))
    found = f"{chart.values[name] / 100:.2f}"
    return _figure(chart, rng, f"What fraction of the whole is {name}?", found, "float", 2)


def extremes(rng: random.Random, turn: int) -> dict[str, Any]:
    """Two years as a list."""
    chart = charts.make(rng, "line")
    found = f"[{chart.lowest}, {chart.highest}]"
    question = "In which years are the lowest and the highest value? Give both in this order."
    return _figure(chart, rng, question, found, "list", None)


def compare(rng: random.Random, turn: int) -> dict[str, Any]:
    """Yes or no as choices; as often Yes as No."""
    chart = charts.make(rng, "bar")
    first, second = chart.highest, rng.choice([n for n in chart.values if n != chart.highest])
    if turn % 2:
        first, second = second, first
    made = _figure(chart, rng, f"Is {first} greater than {second}?", ("Yes", "No")[turn % 2])
    return made | {"choices": ["Yes", "No"]}


def _figure(
    chart: charts.Chart, rng: random.Random, question: str, answer: str, kind: str = "text",
    precision: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    return FIGURE | {
        "picture": charts.paint(chart, rng), "question": question, "answer": answer,
        "type": kind, "precision": precision,
    }  # fmt: skip


def around(right: int, rng: random.Random, turn: int) -> list[str]:
    """Four choices 5 apart; the right one at position `turn`, and as often at any rank."""
    rank = rng.randrange(4)
    wrong = [right + 5 * (k - rank) for k in range(4) if k != rank]
    rng.shuffle(wrong)
    wrong.insert(turn % 4, right)
    return [str(number) for number in wrong]


PROBLEMS: tuple[Callable[[random.Random, int], dict[str, Any]], ...] = (
    rectangle, angle, mean, compare, fraction, count, extremes,
)  # fmt: skip
