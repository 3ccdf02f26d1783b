"""Rendered text for OCRBench's ten question types."""

import math
import random
from collections.abc import Callable
from typing import Any

from PIL import Image, ImageDraw

from ..rows.heldout import HeldOut
from .canvas import INK, SIZE, WORDS, font, lines, middle, png, sheet
from .fresh import fresh

ASK_TEXT = "what is written in the image?"
Made = tuple[Image.Image, str, list[str], str]  # image, question, answers, dataset


def ocrbench(held: HeldOut, rng: random.Random, units: int) -> list[dict[str, Any]]:
    """`units` rows over the ten official question types; needs no pictures."""
    kinds = list(TYPES)

    def make(number: int) -> Made:
        return TYPES[kinds[number % len(kinds)]](rng)

    rows = []
    for number, made in fresh(units, make, lambda made: {(made[3], *made[2])}):
        picture, question, answers, dataset = made
        rows.append(
            {
                "dataset": dataset,
                "question": question,
                "question_type": kinds[number % len(kinds)],
                "answer": answers,
                "image": png(picture),
            }
        )
    return rows


def regular(rng: random.Random) -> Made:
    """A plain word."""
    word = rng.choice(WORDS)
    return lines([word], rng, 54), ASK_TEXT, [word], "mini-regular"


def irregular(rng: random.Random) -> Made:
    """A turned and sheared word."""
    word = rng.choice(WORDS)
    turned = lines([word], rng, 48).rotate(rng.choice([-25, -15, 15, 25]), fillcolor="#d8d4c8")
    shear = rng.uniform(-0.25, 0.25)
    picture = turned.transform(
        turned.size,
        Image.Transform.AFFINE,
        (1, shear, -shear * SIZE / 2, 0, 1, 0),
        fillcolor="#d8d4c8",
    )
    return picture, ASK_TEXT, [word], "mini-irregular"


def artistic(rng: random.Random) -> Made:
    """A gold word in capitals with an outline."""
    word = rng.choice(WORDS).upper()
    picture = sheet(rng)
    style = {"fill": "#e0a100", "stroke_width": 3, "stroke_fill": rng.choice(INK)}
    middle(ImageDraw.Draw(picture), word, 50, **style)
    return picture, ASK_TEXT, [word.lower()], "mini-artistic"


def handwriting(rng: random.Random) -> Made:
    """Letters one by one, each turned and lifted a little."""
    word = rng.choice(WORDS)
    picture = sheet(rng)
    x = 24.0
    for k, letter in enumerate(word):
        stamp = Image.new("L", (64, 80), 0)
        ImageDraw.Draw(stamp).text((12, 10), letter, font=font(46), fill=255)
        stamp = stamp.rotate(rng.uniform(-14, 14))
        y = 90 + 8 * math.sin(k) + rng.uniform(-5, 5)
        picture.paste(Image.new("RGB", stamp.size, "#1b2a6b"), (int(x), int(y)), stamp)
        x += font(46).getlength(letter) + 2
    return picture, ASK_TEXT, [word], "mini-handwriting"


def digits(rng: random.Random) -> Made:
    """A number."""
    number = str(rng.randrange(10_000, 1_000_000))
    return lines([number], rng, 54), "what is the number in the image?", [number], "mini-digits"


def nonsense(rng: random.Random) -> Made:
    """Six consonants: nothing a language model could guess."""
    text = "".join(rng.choice("bcdfghjkmnpqrstvwxz") for _ in range(6))
    return lines([text], rng, 54), ASK_TEXT, [text], "mini-nonsense"


def scene(rng: random.Random) -> Made:
    """A street sign."""
    word, number = rng.choice(WORDS).title(), str(rng.randrange(10, 99))
    picture = Image.new("RGB", (SIZE, SIZE), "#9cc3e6")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((118, 150, 138, 256), fill="#6b6b6b")
    draw.rounded_rectangle((16, 50, 240, 160), 12, fill="#0b6e4f", outline="#fcfcfc", width=4)
    middle(draw, f"{word} {number}", 36, height=105, fill="#fcfcfc")
    return picture, "What is the number on the sign?", [number], "mini-scene"


def document(rng: random.Random) -> Made:
    """A notice of four lines."""
    name, month = rng.choice(WORDS).title(), rng.choice(["May", "June", "July", "March"])
    date = f"{rng.randrange(10, 29)} {month}"
    picture = lines(["NOTICE", f"To: {name}", f"Date: {date}", "Room: North"], rng, 30)
    return picture, "What is the date in this document?", [date], "mini-document"


def receipt(rng: random.Random) -> Made:
    """Two items and their sum."""
    prices = [rng.randrange(110, 990) for _ in range(2)]
    total = f"{sum(prices) / 100:.2f}"
    items = [f"{rng.choice(WORDS)}  {price / 100:.2f}" for price in prices]
    question = (
        "what is the total amount of this receipt? "
        "Answer this question using the text in the image directly."
    )
    return lines(["SHOP", *items, f"TOTAL  {total}"], rng, 30), question, [total], "mini-receipt"


def formula(rng: random.Random) -> Made:
    """x^n + b = c; HME100k answers are LaTeX compared without spaces."""
    letter, power = rng.choice("xyz"), str(rng.randrange(2, 9))
    rest = f"+ {rng.randrange(2, 50)} = {rng.randrange(50, 99)}"
    picture = sheet(rng)
    draw = ImageDraw.Draw(picture)
    draw.text((20, 100), letter, font=font(44), fill="#111111")
    edge = 22 + font(44).getlength(letter)
    draw.text((edge, 90), power, font=font(26), fill="#111111")
    draw.text((edge + 20, 100), rest, font=font(40), fill="#111111")
    question = "Please write out the expression of the formula in the image using LaTeX format."
    return picture, question, [f"{letter} ^ {{ {power} }} {rest}"], "HME100k"


TYPES: dict[str, Callable[[random.Random], Made]] = {
    "Regular Text Recognition": regular,
    "Irregular Text Recognition": irregular,
    "Artistic Text Recognition": artistic,
    "Handwriting Recognition": handwriting,
    "Digit String Recognition": digits,
    "Non-Semantic Text Recognition": nonsense,
    "Scene Text-centric VQA": scene,
    "Doc-oriented VQA": document,
    "Key Information Extraction": receipt,
    "Handwritten Mathematical Expression Recognition": formula,
}
