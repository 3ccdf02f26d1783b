"""Playing cards on a green table, drawn as the paper places them."""

from functools import lru_cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ...sources.base import png

TABLE, PAPER, EDGE = "#35654d", "#fdfdfb", "#8a8a8a"
INKS = {"S": "#16161c", "C": "#16161c", "H": "#c8102e", "D": "#c8102e"}
PUBLISHED = 1200  # pixels: the side of the paper's table, on which four cards are
WIDTH, HEIGHT, STEP, LEFT = 270, 378, 297, 5  # of a card; from one to the next; of the first


def table(state: dict[str, Any], side: int) -> bytes:
    """Return a PNG of side × side with the cards of a state from left to right.

    With other than four cards the row is as wide, and the cards keep their shape.
    """
    scale = side * 4 / (PUBLISHED * len(state["cards"]))
    if len(state["cards"]) < 4:
        scale = side / PUBLISHED
    image = Image.new("RGB", (side, side), TABLE)
    size = round(WIDTH * scale), round(HEIGHT * scale)
    top = (side - size[1]) // 2
    for place, (rank, suit) in enumerate(zip(state["cards"], state["suits"], strict=True)):
        drawn = card(rank, suit).resize(size, Image.Resampling.BOX)
        image.paste(drawn, (round((LEFT + STEP * place) * scale), top))
    return png(image)


@lru_cache(maxsize=52)
def card(rank: str, suit: str) -> Image.Image:
    """Return one card, 270 × 378, which is not to be changed: the rank large, the suit below it."""
    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    pen, ink = ImageDraw.Draw(image), INKS[suit]
    pen.rectangle((0, 0, WIDTH - 1, HEIGHT - 1), outline=EDGE, width=6)
    font = ImageFont.load_default(190 if len(rank) == 1 else 160)
    pen.text((WIDTH / 2, 125), rank, ink, font, anchor="mm")
    _suit(pen, suit, ink)
    return image


def _suit(pen: ImageDraw.ImageDraw, suit: str, ink: str) -> None:
    x, y, r = WIDTH / 2, 292, 56
    if suit == "D":
        pen.polygon([(x, y - r), (x + 0.75 * r, y), (x, y + r), (x - 0.75 * r, y)], ink)
        return
    tip = 1 if suit == "H" else -1  # a spade is a heart upside down
    b = r / 2
    if suit == "C":
        discs = [(x, y - b), (x - 1.05 * b, y + 0.4 * b), (x + 1.05 * b, y + 0.4 * b)]
    else:
        discs = [(x - 0.95 * b, y - 0.5 * b * tip), (x + 0.95 * b, y - 0.5 * b * tip)]
        pen.polygon([(x - 1.9 * b, y - 0.3 * b * tip), (x + 1.9 * b, y - 0.3 * b * tip),
                     (x, y + r * tip)], ink)  # fmt: skip
    for at, level in discs:
        pen.ellipse((at - b, level - b, at + b, level + b), ink)
    if suit != "H":
        pen.polygon([(x, y), (x - 0.5 * r, y + 1.15 * r), (x + 0.5 * r, y + 1.15 * r)], ink)
