"""Pages of one to four captioned pictures: how many, where, of one kind or not."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from PIL import Image

from ...shards.sample import Sample
from ..base import Deck, SourceError
from ..questions import with_article
from .drawing import Easel
from .forms import Fact, fact

SIDES = ((224, 224), (240, 240), (240, 200), (200, 240))  # (width, height)
LARGEST = 112  # pixels of a picture's longest side on a page
GAP = 4  # pixels between two pictures, at least
DESIGNS = ("count", "position", "corner", "same", "odd")
CORNERS = ("top left", "top right", "bottom left", "bottom right")
FEWEST_KINDS = 3


@dataclass(frozen=True)
class Small:
    """A captioned picture, small enough for a page."""

    identity: str
    kind: str
    image: Image.Image


@dataclass(frozen=True)
class Placed:
    """A picture's kind, and where it lies on a page in pixels."""

    kind: str
    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Composite:
    """A page, what is on it, and whose pictures these are."""

    image: Image.Image
    placed: list[Placed]
    identity: str
    design: str
    counted: str = ""
    """the kind to be counted, which may not be there"""


def small(samples: Sequence[Sample]) -> list[Small]:
    """Decode the picture of each sample, at most LARGEST pixels high and wide."""
    from omni.media.decode import load_image  # here, because torch behind it takes seconds

    found = []
    for sample in samples:
        image = load_image(next(iter(sample.parts.values())))
        image.thumbnail((LARGEST, LARGEST), reducing_gap=2.0)
        found.append(Small(str(sample.meta["identity"]), str(sample.meta["category"]), image))
    return found


class Composer:
    """Makes pages; designs, numbers, and same or different come in equal parts.

    Raises:
        SourceError: the pictures are of fewer than three kinds.
    """

    def __init__(self, pictures: Sequence[Small], easel: Easel, rng: np.random.Generator):
        self.easel, self.by_kind = easel, dict[str, list[Small]]()
        for picture in pictures:
            self.by_kind.setdefault(picture.kind, []).append(picture)
        self.kinds = sorted(self.by_kind)
        if len(self.kinds) < FEWEST_KINDS:
            raise SourceError(
                f"--images: questions about several pictures need {FEWEST_KINDS} kinds of them; "
                f"there is {', '.join(self.kinds) or 'none'}"
            )
        self._design, self._number = Deck(DESIGNS, rng), Deck("1234", rng)
        self._verdict, self._few = Deck(("same", "different"), rng), Deck("34", rng)

    def page(self, rng: random.Random) -> Composite:
        """Return the next page."""
        design = self._design.draw()
        kinds, counted = self._kinds_for(design, rng)
        # the kind is drawn first, so that a frequent one is asked about no more often
        chosen = list[Small]()
        for kind in kinds:
            left = [one for one in self.by_kind[kind] if one not in chosen]
            chosen.append(rng.choice(left or self.by_kind[kind]))
        page = self.easel.page(rng, rng.choice(SIDES))
        quarters = design in ("corner", "odd") or len(chosen) > 2
        boxes = _quartered(chosen, page.image.size, rng) if quarters else []
        while not boxes:
            boxes = _scattered(chosen, page.image.size, rng)
        placed = []
        for one, box in zip(chosen, boxes, strict=True):
            page.image.paste(one.image.resize((box[2] - box[0], box[3] - box[1])), box[:2])
            placed.append(Placed(one.kind, *box))
        identity = "+".join(sorted(one.identity for one in chosen))
        return Composite(page.image, placed, identity, design, counted)

    def _kinds_for(self, design: str, rng: random.Random) -> tuple[list[str], str]:
        """Return a kind for every picture, and the one to be counted."""
        one, two = rng.sample(self.kinds, 2)
        if design == "count":
            number = int(self._number.draw())
            ones = rng.randint(0, number)
            return [one] * ones + [two] * (number - ones), one
        if design == "same":
            return [one, one if self._verdict.draw() == "same" else two], ""
        if design == "odd":
            return [one] * (int(self._few.draw()) - 1) + [two], ""
        number = 2 if design == "position" else rng.randint(2, min(4, len(self.kinds)))
        return rng.sample(self.kinds, number), ""


Box = tuple[int, int, int, int]


def _sized(one: Small, largest: int, rng: random.Random) -> tuple[int, int]:
    side = rng.uniform(0.75, 1) * min(largest, LARGEST)
    scale = side / max(one.image.size)
    width, height = (max(1, round(edge * scale)) for edge in one.image.size)
    return width, height


def _quartered(pictures: Sequence[Small], side: tuple[int, int], rng: random.Random) -> list[Box]:
    """Each in a quarter of the page of its own, anywhere in it."""
    half = side[0] // 2, side[1] // 2
    boxes = []
    for one, place in zip(pictures, rng.sample(range(4), len(pictures)), strict=True):
        width, height = _sized(one, min(half) - 2 * GAP, rng)
        x = half[0] * (place % 2) + rng.randint(GAP, half[0] - width - GAP)
        y = half[1] * (place // 2) + rng.randint(GAP, half[1] - height - GAP)
        boxes.append((x, y, x + width, y + height))
    return boxes


def _scattered(pictures: Sequence[Small], side: tuple[int, int], rng: random.Random) -> list[Box]:
    """Anywhere on the page without touching; empty where one found no room."""
    boxes = list[Box]()
    for one in pictures:
        width, height = _sized(one, LARGEST, rng)
        for _ in range(30):
            x = rng.randint(GAP, side[0] - width - GAP)
            y = rng.randint(GAP, side[1] - height - GAP)
            if all(_clear((x, y, x + width, y + height), box) for box in boxes):
                boxes.append((x, y, x + width, y + height))
                break
        else:
            return []
    return boxes


def _clear(one: Box, two: Box) -> bool:
    return (
        one[2] + GAP <= two[0] or two[2] + GAP <= one[0]
        or one[3] + GAP <= two[1] or two[3] + GAP <= one[1]
    )  # fmt: skip


def facts(page: Composite, kinds: Sequence[str], rng: random.Random) -> list[Fact]:
    """Return what the page shows, that for which it was designed first.

    Args:
        page: with its pictures.
        kinds: all there are; one that is not on the page may be asked about.
        rng: for which of several and in which order.
    """
    found = rng.sample(every := _facts(page, kinds, rng), len(every))
    wanted = {
        "count": ("count", "count_kind"), "position": ("side", "height"),
        "corner": ("corner", "corner_kind"), "same": ("same",), "odd": ("odd",),
    }[page.design]  # fmt: skip
    return sorted(found, key=lambda one: one.kind not in wanted)


def _facts(page: Composite, kinds: Sequence[str], rng: random.Random) -> list[Fact]:
    placed, number = page.placed, len(page.placed)
    counts = Counter(one.kind for one in placed)
    found = list[Fact]()
    # some questions are put to pages made for them alone: others would give the answer away
    if page.counted:
        thing = with_article(page.counted)
        found.append(fact("count", number, range(1, 5)))
        found.append(fact("count_kind", counts[page.counted], range(5), thing=thing))
    only = [one for one in placed if counts[one.kind] == 1]
    rng.shuffle(only)
    for one, two in combinations(only, 2):
        found += _relations(one, two)
    for one in only:
        if corner := corner_of(one, page.image.size):
            others = [kind for kind in kinds if kind != one.kind]
            wrong = [name for name in CORNERS if name != corner]
            found += [
                fact("corner", corner, wrong, thing=f"the {one.kind}"),
                fact("corner_kind", one.kind, others, corner=corner),
            ]
    if page.design == "same":
        verdict = "same" if len(counts) == 1 else "different"
        found.append(fact("same", verdict, ["different" if verdict == "same" else "same"]))
    if number > 2 and len(counts) == 2 and 1 in counts.values():
        odd = next(kind for kind, count in counts.items() if count == 1)
        found.append(fact("odd", odd, [kind for kind in kinds if kind != odd]))
    return found


def _relations(one: Placed, two: Placed) -> list[Fact]:
    """Left or right and higher or lower, where the one begins only after the other ends."""
    names, found = {"thing": f"the {one.kind}", "other": f"the {two.kind}"}, []
    if one.right <= two.left or two.right <= one.left:
        side = "left" if one.right <= two.left else "right"
        found.append(fact("side", side, ["left", "right"], **names))
    if one.bottom <= two.top or two.bottom <= one.top:
        height = "higher" if one.bottom <= two.top else "lower"
        found.append(fact("height", height, ["higher", "lower"], **names))
    return found


def corner_of(one: Placed, side: tuple[int, int]) -> str:
    """Return the corner in whose quarter of the page a picture lies, "" where it lies in two."""
    x = "left" if one.right <= side[0] // 2 else "right" if one.left >= side[0] // 2 else ""
    y = "top" if one.bottom <= side[1] // 2 else "bottom" if one.top >= side[1] // 2 else ""
    return f"{y} {x}" if x and y else ""
