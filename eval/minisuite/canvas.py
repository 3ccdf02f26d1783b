"""What procedural pictures are drawn with: the evaluation's own font, inks, papers and colours.

No training source uses one of these fonts, colours or words; a test compares them.
"""

import io
import random
from typing import Any

from PIL import Image, ImageDraw, ImageFont

SIZE = 256
INK = ["#12263a", "#5b1a1a", "#14452f", "#3d1e5b", "#111111"]
PAPER = ["#fdf6e3", "#eaf4f4", "#f3e9f7", "#eef2dd", "#fcfcfc"]
FILLS = ["#2a9d8f", "#e76f51", "#457b9d", "#e9c46a", "#9d4edd", "#7f5539"]
WORDS = [
    "harbor", "velvet", "copper", "meadow", "lantern", "saddle", "orchid", "timber", "canyon",
    "marble", "ribbon", "falcon", "ginger", "pepper", "rocket", "silver", "temple", "walnut",
    "anchor", "basket", "beacon", "bonnet", "bucket", "candle", "cavern", "cobalt", "coral",
    "cotton", "dagger", "desert", "ember", "fabric", "fiddle", "forest", "gravel", "garlic",
    "helmet", "indigo", "jasmine", "kettle", "ladder", "lagoon", "magnet", "mirror", "nectar",
    "needle", "nickel", "paddle", "pebble", "pollen", "planet", "pocket", "quartz", "saffron",
    "sandal", "satin", "spruce", "summit", "thunder", "tunnel", "valley", "zephyr",
]  # fmt: skip


def font(size: int) -> Any:
    """Pillow's own outline font: present wherever Pillow is, hence the same pictures everywhere."""
    return ImageFont.load_default(size)


def sheet(rng: random.Random) -> Image.Image:
    """An empty page."""
    return Image.new("RGB", (SIZE, SIZE), rng.choice(PAPER))


def lines(texts: list[str], rng: random.Random, size: int) -> Image.Image:
    """A sheet with these lines, centred."""
    picture = sheet(rng)
    draw, ink = ImageDraw.Draw(picture), rng.choice(INK)
    top = SIZE / 2 - (len(texts) - 1) * size * 0.75
    for k, text in enumerate(texts):
        middle(draw, text, size, height=top + 1.5 * size * k, fill=ink)
    return picture


def middle(
    draw: ImageDraw.ImageDraw, text: str, size: int, height: float = SIZE / 2, **style: Any
) -> None:
    """Write centred at `height`, smaller where the text would not fit."""
    while font(size).getlength(text) > SIZE - 16 and size > 12:
        size -= 2
    draw.text((SIZE / 2, height), text, font=font(size), anchor="mm", **style)


def png(picture: Image.Image) -> bytes:
    """The file that a parquet row holds."""
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()
