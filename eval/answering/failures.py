"""Small copies of the pictures behind answers that lost points, for the page of a result."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omni.processing.messages import media_refs

from ..scoring.right import Outcome
from .answerer import Messages

FOLDER = "failures"  # below the folder of results
SHOWN = 24  # a row
HEIGHT = 180  # pixels
MOST = 4  # pictures of one question side by side
QUALITY = 80


def keep_pictures(
    row: str, outcomes: Sequence[Outcome], asked: Callable[[Outcome], Messages], out: Path
) -> None:
    """Save what some answers lost points over to OUT/failures/ROW-NUMBER.jpg, named in `image`.

    At most `SHOWN`, spread over the row. Pictures that cannot be decoded within the limits are left
    out.

    Args:
        row: the row's name.
        outcomes: all of it; those chosen are changed.
        asked: an outcome -> the conversation that was asked.
        out: folder of the results.
    """
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{row}-*.jpg"):
        old.unlink()
    for number, outcome in enumerate(choose(outcomes)):
        try:
            messages = asked(outcome)
        except (Exception, SystemExit):  # it could not be asked either, and was named then
            continue
        if data := thumbnail([ref for kind, ref in media_refs(messages) if kind == "image"]):
            outcome.image = f"{FOLDER}/{row}-{number:02}.jpg"
            (out / outcome.image).write_bytes(data)


def choose(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Not fully right ones, one of each unit first, evenly spread: docs may be sorted by kind."""
    lost = [outcome for outcome in outcomes if outcome.correct < 1]
    first = {outcome.unit: outcome for outcome in reversed(lost)}
    units = [outcome for outcome in lost if first[outcome.unit] is outcome]
    others = [outcome for outcome in lost if first[outcome.unit] is not outcome]
    step = max(1.0, len(units) / SHOWN)
    spread = [units[int(k * step)] for k in range(min(SHOWN, len(units)))]
    return spread + others[: SHOWN - len(spread)]


def thumbnail(pictures: Sequence[Any]) -> bytes:
    """The first pictures side by side as a JPEG; empty if none can be read."""
    from PIL import Image

    from omni.media.decode import MediaError, load_image

    small = []
    for source in pictures[:MOST]:
        try:
            picture = load_image(source)
        except MediaError:
            continue
        picture.thumbnail((2 * HEIGHT, HEIGHT))
        small.append(picture)
    if not small:
        return b""
    height = max(p.height for p in small)
    strip = Image.new("RGB", (sum(p.width + 4 for p in small) - 4, height), "white")
    left = 0
    for picture in small:
        strip.paste(picture, (left, (height - picture.height) // 2))
        left += picture.width + 4
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
