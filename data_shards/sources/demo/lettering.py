"""Signs, plates and plain lines that say one short word or one number."""

import random

from PIL import Image

from .drawing import FILLS, LIGHT, Easel, Page
from .forms import Fact, fact

SIDES = ((192, 192), (224, 160), (240, 120), (200, 200))  # (width, height)


def draw(text: str, easel: Easel, rng: random.Random) -> tuple[str, Image.Image]:
    """Return the form that was drawn, and the picture; the text takes most of its width."""
    form = rng.choice(("line", "board", "plate", "tag"))
    page = easel.page(rng, rng.choice(SIDES))
    ink = _ground(form, page, rng)
    place = page.width / 2 + rng.randint(-6, 6), page.height / 2 + rng.randint(-8, 8)
    size = rng.randint(page.height // 3, page.height // 2)
    turn = rng.choice((0, 0, rng.uniform(-9, 9)))
    page.write(place, text, size, fill=ink, room=page.width * 0.74, turn=turn)
    return form, page.image


def _ground(form: str, page: Page, rng: random.Random) -> str:
    """Draw what the text stands on; return the colour of the letters."""
    width, height, fill = page.width, page.height, rng.choice(FILLS)
    if form == "board":
        page.draw.rectangle((8, height * 0.14, width - 9, height * 0.86), fill, LIGHT, 3)
        return LIGHT
    if form == "plate":
        page.draw.rounded_rectangle(
            (6, height * 0.18, width - 7, height * 0.82), 14, LIGHT, fill, 5
        )
    if form == "tag":
        page.draw.ellipse((3, 3, width - 4, height - 4), fill)
        return LIGHT
    return page.ink


def word_facts(word: str, others: list[str], rng: random.Random) -> list[Fact]:
    """What a word shows; the wrong words are the likest of the others, and some unlike."""
    like = sorted(others, key=lambda other: -_likeness(word, other))[:3]
    length, letters = len(word), sorted({other[0] for other in others} - {word[0]})
    return [
        fact("word", word, [*like, *rng.sample(others, 3)]),
        *rng.sample(
            [
                fact("initial", word[0], rng.sample(letters, min(4, len(letters)))),
                fact("letters", length, [n for n in range(2, 9) if n != length]),
            ],
            2,
        ),
    ]


def _likeness(one: str, other: str) -> int:
    return sum(a == b for a, b in zip(one, other, strict=False)) - abs(len(one) - len(other))


def number_facts(number: str, rng: random.Random) -> list[Fact]:
    """What a number shows; the wrong numbers have one other digit, or as many of them."""
    length, parity = len(number), ("even", "odd")[int(number) % 2]
    wrong = set[str]()
    while len(wrong) < 5:
        at, digit = rng.randrange(length), str(rng.randint(1, 9))
        wrong.add(number[:at] + digit + number[at + 1 :])
        wrong.discard(number)
    return [
        fact("number", number, rng.sample(sorted(wrong), 5)),
        *rng.sample(
            [
                fact("digits", length, [n for n in range(1, 6) if n != length]),
                fact("parity", parity, ["even" if parity == "odd" else "odd"]),
            ],
            2,
        ),
    ]
