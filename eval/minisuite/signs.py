"""TextVQA's shape: signs and labels, read by ten annotators who do not quite agree."""

import random
from collections.abc import Callable
from typing import Any

from PIL import Image, ImageDraw

from ..rows.heldout import HeldOut
from .canvas import FILLS, INK, SIZE, WORDS, font, middle, png, sheet
from .fresh import fresh

ANNOTATORS = 10
Sign = tuple[Image.Image, str, str, list[str]]  # picture, question, what it says, all its words


def textvqa(held: HeldOut, rng: random.Random, units: int) -> list[dict[str, Any]]:
    """`units` questions about three sorts of signs in turn."""

    def make(number: int) -> Sign:
        return SIGNS[number % len(SIGNS)](rng)

    rows = []
    for number, made in fresh(units, make, lambda made: {made[1:3]}):
        picture, question, truth, words = made
        rows.append(
            {
                "image_id": f"mini_{number}",
                "question_id": number,
                "question": question,
                "question_tokens": question.strip("?").split(),
                "image": png(picture),
                "image_width": picture.width,
                "image_height": picture.height,
                "flickr_original_url": "",
                "flickr_300k_url": "",
                "answers": annotators(truth, words, rng),
                "image_classes": ["sign"],
                "set_name": "val",
                "ocr_tokens": words,
            }
        )
    return rows


def annotators(truth: str, words: list[str], rng: random.Random) -> list[str]:
    """Ten answers: six to nine agree, the others saw nothing or read something else."""
    right = rng.randrange(6, ANNOTATORS)
    wrong = [word for word in words if word != truth] + ["unanswerable"]
    answers = [truth] * right + [rng.choice(wrong) for _ in range(ANNOTATORS - right)]
    rng.shuffle(answers)
    return answers


def shop(rng: random.Random) -> Sign:
    """A board over a door."""
    name, goods = rng.sample(WORDS, 2)
    picture = sheet(rng)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((88, 130, 168, SIZE), fill=rng.choice(INK))
    draw.rounded_rectangle((14, 40, 242, 116), 10, fill=rng.choice(FILLS))
    middle(draw, name.upper(), 40, height=68, fill="#fcfcfc")
    middle(draw, f"{goods} store", 20, height=100, fill="#fcfcfc")
    return picture, "what is the name of the store?", name, [name, goods, "store"]


def bus(rng: random.Random) -> Sign:
    """A bus with its line and where it goes."""
    number, town = str(rng.randrange(10, 999)), rng.choice(WORDS)
    picture = sheet(rng)
    draw = ImageDraw.Draw(picture)
    draw.rounded_rectangle((18, 60, 238, 206), 16, fill=rng.choice(FILLS))
    for x in (72, 184):
        draw.ellipse((x - 20, 188, x + 20, 228), fill=INK[4])
    draw.rectangle((34, 72, 222, 122), fill=INK[0])
    middle(draw, f"{number} {town}", 32, height=97, fill="#e9c46a")
    return picture, "what number is on the bus?", number, [number, town]


def bottle(rng: random.Random) -> Sign:
    """A bottle with a label, a little turned."""
    brand, year = rng.choice(WORDS), str(rng.randrange(1950, 2020))
    picture = sheet(rng)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((108, 10, 148, 70), fill=rng.choice(INK))
    draw.rounded_rectangle((66, 60, 190, 246), 24, fill=rng.choice(FILLS))
    draw.rectangle((66, 110, 190, 200), fill="#fcfcfc")
    size = 30
    while font(size).getlength(brand) > 112:
        size -= 2
    draw.text((128, 140), brand, font=font(size), anchor="mm", fill=INK[1])
    draw.text((128, 176), year, font=font(24), anchor="mm", fill=INK[1])
    turned = picture.rotate(rng.uniform(-8, 8), fillcolor="#d8d4c8")
    if rng.random() < 0.5:
        return turned, "what brand is the bottle?", brand, [brand, year]
    return turned, "what year is on the label?", year, [brand, year]


SIGNS: tuple[Callable[[random.Random], Sign], ...] = (shop, bus, bottle)
