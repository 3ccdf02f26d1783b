"""MMMU's shape: tables, diagrams and plots in exam questions, some with two images."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from PIL import Image, ImageDraw

from ..rows.heldout import HeldOut
from . import charts
from .canvas import FILLS, INK, SIZE, WORDS, font, png, sheet
from .fresh import fresh
from .recognition import LETTERS


@dataclass(frozen=True)
class Problem:
    """`options` holds the right one first, or is empty for an open question."""

    subject: str
    kind: str
    question: str
    pictures: list[Image.Image]
    answer: str
    options: list[str]


def mmmu(held: HeldOut, rng: random.Random, units: int) -> list[dict[str, Any]]:
    """`units` questions: every sixteenth open, the others with their letters assigned evenly."""

    def make(number: int) -> Problem:
        ask = open_total if number % 16 == 15 else PROBLEMS[number % len(PROBLEMS)]
        return ask(rng)

    made = [problem for _, problem in fresh(units, make, _about)]
    closed = [LETTERS[k % 4] for k in range(sum(bool(problem.options) for problem in made))]
    rng.shuffle(closed)
    return [_row(problem, number, closed, rng) for number, problem in enumerate(made)]


def _row(problem: Problem, number: int, letters: list[str], rng: random.Random) -> dict[str, Any]:
    answer, options = problem.answer, []
    if problem.options:
        answer = letters.pop()
        right, *options = problem.options
        rng.shuffle(options)
        options.insert(LETTERS.index(answer), right)
    pictures = [png(picture) for picture in problem.pictures]
    return {
        "id": f"validation_{problem.subject}_{number + 1}",
        "question": problem.question,
        "options": str(options),
        "explanation": "",
        **{f"image_{k + 1}": picture for k, picture in enumerate(pictures)},
        "img_type": f"['{problem.kind}']",
        "answer": answer,
        "topic_difficulty": "Easy",
        "question_type": "multiple-choice" if options else "open",
        "subfield": "mini",
    }


def _about(problem: Problem) -> set[Any]:
    return {(problem.question, problem.answer, frozenset(problem.options))}


@dataclass(frozen=True)
class Table:
    """Numbers by row and column, no two alike in a column."""

    rows: list[str]
    columns: list[str]
    cells: dict[tuple[str, str], int]


def table(rng: random.Random) -> Table:
    """Four rows, two columns."""
    rows, columns = rng.sample(WORDS, 4), rng.sample(["price", "weight", "height", "age"], 2)
    cells = {}
    for column in columns:
        cells |= {
            (row, column): v for row, v in zip(rows, rng.sample(range(11, 99), 4), strict=True)
        }
    return Table(rows, columns, cells)


def paint_table(made: Table, rng: random.Random) -> Image.Image:
    """Ruled, with its headings."""
    picture = sheet(rng)
    draw, ink = ImageDraw.Draw(picture), rng.choice(INK)
    lines = [["", *made.columns]]
    lines += [[row, *(str(made.cells[row, c]) for c in made.columns)] for row in made.rows]
    for k, line in enumerate(lines):
        y = 40 + 42 * k
        for text, x in zip(line, (52, 140, 212), strict=True):
            draw.text((x, y), text, font=font(20), anchor="mm", fill=ink)
        draw.line((8, y + 20, SIZE - 8, y + 20), fill=ink, width=3 if k == 0 else 1)
    return picture


def cell(rng: random.Random) -> Problem:
    """Look a number up; the wrong ones stand elsewhere in the table."""
    made = table(rng)
    row, column = rng.choice(made.rows), rng.choice(made.columns)
    right = str(made.cells[row, column])
    others = sorted({str(value) for value in made.cells.values()} - {right})
    question = f"What is the {column} of {row} in the table <image 1>?"
    options = [right, *rng.sample(others, 3)]
    return Problem("Accounting", "Tables", question, [paint_table(made, rng)], right, options)


def largest(rng: random.Random) -> Problem:
    """Compare a column."""
    made = table(rng)
    column = rng.choice(made.columns)
    rows = sorted(made.rows, key=lambda row: -made.cells[row, column])
    question = f"<image 1> Which has the largest {column}?"
    return Problem("Economics", "Tables", question, [paint_table(made, rng)], rows[0], rows)


def following(rng: random.Random) -> Problem:
    """Follow an arrow of a diagram whose boxes are not in order."""
    steps = rng.sample(WORDS, 5)
    picture = sheet(rng)
    draw, ink, fill = ImageDraw.Draw(picture), rng.choice(INK), rng.choice(FILLS)
    places = [(60, 40), (196, 40), (196, 128), (60, 128), (60, 216)]
    if rng.random() < 0.5:
        places = [(SIZE - x, y) for x, y in places]
    for (x, y), (to_x, to_y) in pairwise(places):
        draw.line((x, y, to_x, to_y), fill=ink, width=4)
        middle = (x + to_x) / 2, (y + to_y) / 2
        draw.regular_polygon((*middle, 9), 3, rotation=_heading(to_x - x, to_y - y), fill=ink)
    for (x, y), name in zip(places, steps, strict=True):
        draw.rounded_rectangle((x - 46, y - 16, x + 46, y + 16), 6, fill=fill, outline=ink)
        draw.text((x, y), name, font=font(17), anchor="mm", fill="#fcfcfc")
    at = rng.randrange(4)
    others = [name for k, name in enumerate(steps) if k not in (at, at + 1)]
    question = f"In the diagram <image 1>, which step follows {steps[at]}?"
    options = [steps[at + 1], *others]
    return Problem("Computer_Science", "Diagrams", question, [picture], steps[at + 1], options)


def _heading(dx: float, dy: float) -> int:
    """Turn of a triangle that points up, anticlockwise, for an arrow along (dx, dy)."""
    if abs(dx) > abs(dy):
        return -90 if dx > 0 else 90
    return 180 if dy > 0 else 0


def peak(rng: random.Random) -> Problem:
    """Read a line plot."""
    chart = charts.make(rng, "line")
    years = [chart.highest, *(year for year in chart.values if year != chart.highest)]
    question = "In which year does the plot <image 1> reach its maximum?"
    return Problem("Physics", "Plots", question, [charts.paint(chart, rng)], years[0], years)


def two_plots(rng: random.Random) -> Problem:
    """Which of two bar charts shows the higher highest value, and of what."""
    one, two = charts.make(rng, "bar"), charts.make(rng, "bar")
    while set(one.values) & set(two.values) or one.values[one.highest] == two.values[two.highest]:
        two = charts.make(rng, "bar")
    first, second = (one, two) if one.values[one.highest] > two.values[two.highest] else (two, one)
    options = [first.highest, second.highest, first.lowest, second.lowest]
    pictures = [charts.paint(chart, rng) for chart in (one, two)]
    question = "Charts <image 1> and <image 2> share a scale. Which has the highest value of all?"
    return Problem("Marketing", "Plots", question, pictures, options[0], options)


def open_total(rng: random.Random) -> Problem:
    """Add a column; no options."""
    made = table(rng)
    column = rng.choice(made.columns)
    total = str(sum(made.cells[row, column] for row in made.rows))
    question = f"What is the sum of the column {column} in <image 1>?"
    return Problem("Math", "Tables", question, [paint_table(made, rng)], total, [])


PROBLEMS: tuple[Callable[[random.Random], Problem], ...] = (
    cell, following, largest, two_plots, peak,
)  # fmt: skip
