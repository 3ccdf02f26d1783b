"""Several held-out pictures on one page: where, how many, what beside what. SEED and MMBench-CN."""

import io
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ..rows.heldout import HeldOut, Picture
from .canvas import SIZE, png, sheet
from .fresh import fresh
from .recognition import LETTERS, Question, assign_letters, circular_copies, place

HALF = SIZE // 2
PLACES = ("left", "right", "top", "bottom")
CORNERS = {
    "left": (0, HALF // 2), "right": (HALF, HALF // 2),
    "top": (HALF // 2, 0), "bottom": (HALF // 2, HALF),
}  # fmt: skip
OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}


@dataclass(frozen=True)
class Wording:
    """The questions in one language. A kind without a translation stays as it is."""

    what: str
    where: str
    beside: str
    count: str
    places: dict[str, str]
    beyond: dict[str, str]
    """place -> "... of", seen from the other picture"""
    kinds: dict[str, str]

    def kind(self, name: str) -> str:
        return self.kinds.get(name, name)


ENGLISH = Wording(
    "What kind of thing is {place}?",
    "Where in the picture is the {kind}?",
    "What kind of thing is {beyond} the {kind}?",
    "How many things does the picture show?",
    {name: f"at the {name}" for name in PLACES},
    {"left": "left of", "right": "right of", "top": "above", "bottom": "below"},
    {},
)
CHINESE = Wording(
    "图片{place}是哪一类东西？",
    "{kind}在图片的什么位置？",
    "在{kind}{beyond}的是哪一类东西？",
    "图片中有几样东西？",
    {"left": "左边", "right": "右边", "top": "上边", "bottom": "下边"},
    {"left": "左边", "right": "右边", "top": "上边", "bottom": "下边"},
    {
        "animal": "动物", "symbol": "符号", "landmark": "地标", "food": "食物",
        "decoration": "装饰", "plant": "植物", "vehicle": "车辆", "tool": "工具",
        "circle": "圆形", "square": "正方形", "triangle": "三角形", "star": "星形",
        "heart": "心形", "cross": "十字", "ring": "圆环", "diamond": "菱形",
    },
)  # fmt: skip


def seedbench(held: HeldOut, rng: random.Random, units: int) -> list[dict[str, Any]]:
    """`units` questions over four of SEED's types: identity, location, relation, counting."""
    rows = []
    for number, (made, kind) in enumerate(questions(held, rng, units, ENGLISH)):
        choices = {
            f"choice_{letter.lower()}": o for letter, o in zip(LETTERS, made.options, strict=True)
        }
        rows.append(
            {
                "answer": made.answer,
                **choices,
                "data_id": f"{number}.png",
                "data_type": "image",
                "question": made.text,
                "question_id": f"mini_{number}",
                "question_type_id": kind,
                "image": [made.picture.data],
                "segment": [],
            }
        )
    return rows


def mmbench_cn(held: HeldOut, rng: random.Random, units: int) -> list[dict[str, Any]]:
    """`units` questions in Chinese, each in its four rotated copies."""
    names = {2: "image_topic", 4: "object_localization", 5: "counting", 6: "spatial_relationship"}
    made = questions(held, rng, units, CHINESE)
    return [
        row
        for number, (question, kind) in enumerate(made)
        for row in circular_copies(question, number, names[kind], held.source)
    ]


def questions(
    held: HeldOut, rng: random.Random, units: int, wording: Wording
) -> list[tuple[Question, int]]:
    """Questions with four options and SEED's number of their type, types in turn, letters assigned.

    Raises:
        LookupError: fewer than five kinds of pictures are held out.
    """
    kinds = sorted({picture.category for picture in held.pictures})
    if len(kinds) <= len(LETTERS):
        raise LookupError(
            f"questions about places need held-out pictures of five kinds; {held.root} "
            f"holds {len(held.pictures)} pictures of {len(kinds)}"
        )
    asker = Asker(held, kinds, rng, wording)
    types: list[tuple[int, Callable[[str], Question]]] = [
        (2, asker.what), (4, asker.where), (6, asker.beside), (5, asker.count)
    ]  # fmt: skip

    def make(number: int) -> Question:
        _, ask = types[number % len(types)]
        return ask(PLACES[(number + number // len(types)) % len(PLACES)])  # no type keeps its place

    made = [
        (question, types[number % len(types)][0]) for number, question in fresh(units, make, _about)
    ]
    letters = assign_letters([question for question, _ in made], rng)
    return [
        (place(question, letter, rng), kind)
        for (question, kind), letter in zip(made, letters, strict=True)
    ]


def _about(question: Question) -> set[Any]:
    """What is asked of which pictures, whose order on the page is in the answer."""
    pictures = frozenset(question.picture.where.split("+"))
    return {(question.text, question.options[0], pictures)}


class Asker:
    """Makes pages of two held-out pictures of different kinds and asks about them."""

    def __init__(
        self, held: HeldOut, kinds: list[str], rng: random.Random, wording: Wording
    ) -> None:
        self.held, self.kinds, self.rng, self.wording = held, kinds, rng, wording
        self.by_kind = {k: [p for p in held.pictures if p.category == k] for k in kinds}

    def what(self, where: str) -> Question:
        here, other, page = self._pair(where)
        text = self.wording.what.format(place=self.wording.places[where])
        wrong = [other.category, *self._others(2, here, other)]
        return self._kinds(page, text, [here.category, *wrong])

    def where(self, where: str) -> Question:
        here, _, page = self._pair(where)
        text = self.wording.where.format(kind=self.wording.kind(here.category))
        places = self.wording.places
        return Question(
            page, text, [places[where], *(places[p] for p in PLACES if p != where)], "A"
        )

    def beside(self, where: str) -> Question:
        here, other, page = self._pair(where)
        text = self.wording.beside.format(
            beyond=self.wording.beyond[where], kind=self.wording.kind(other.category)
        )
        # the kind that the question names would be no temptation
        return self._kinds(page, text, [here.category, *self._others(3, here, other)])

    def count(self, where: str) -> Question:
        """One to four pictures in the corners."""
        number = PLACES.index(where) + 1
        corners = self.rng.sample([(0, 0), (HALF, 0), (0, HALF), (HALF, HALF)], number)
        chosen = [self._draw(kind) for kind in self.rng.sample(self.kinds, number)]
        page = self._page(list(zip(chosen, corners, strict=True)))
        others = [str(n) for n in range(1, 5) if n != number]
        return Question(page, self.wording.count, [str(number), *others], "A")

    def _pair(self, where: str) -> tuple[Picture, Picture, Picture]:
        one, two = (self._draw(kind) for kind in self.rng.sample(self.kinds, 2))
        page = self._page([(one, CORNERS[where]), (two, CORNERS[OPPOSITE[where]])])
        return one, two, page

    def _others(self, number: int, *shown: Picture) -> list[str]:
        names = {picture.category for picture in shown}
        return self.rng.sample([kind for kind in self.kinds if kind not in names], number)

    def _kinds(self, page: Picture, text: str, options: list[str]) -> Question:
        return Question(page, text, [self.wording.kind(option) for option in options], "A")

    def _draw(self, kind: str) -> Picture:
        return self.rng.choice(self.by_kind[kind])

    def _page(self, placed: list[tuple[Picture, tuple[int, int]]]) -> Picture:
        page = sheet(self.rng)
        for picture, (x, y) in placed:
            stamp = Image.open(io.BytesIO(picture.data)).convert("RGB")
            stamp.thumbnail((HALF - 16, HALF - 16))
            page.paste(stamp, (x + (HALF - stamp.width) // 2, y + (HALF - stamp.height) // 2))
        where = "+".join(picture.where for picture, _ in placed)
        return Picture("", "", "", png(page), where)
