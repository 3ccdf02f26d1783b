"""HallusionBench's shape: the same yes/no questions about a figure and its counterpart."""

import random
from dataclasses import replace
from typing import Any

from data_shards.sources.questions import ASK_MATCH, ASK_YES_NO, with_article

from ..rows.heldout import HeldOut, Picture
from . import charts
from .canvas import png
from .fresh import fresh
from .recognition import overlap

CHARTS = "chart"  # subcategory of the drawn figures
# two figures, and per question its text and whether it is true of each
Set = tuple[Picture, Picture, list[tuple[str, bool, bool]]]


def hallusionbench(held: HeldOut, rng: random.Random, units: int) -> list[dict[str, Any]]:
    """`units` sets of two figures and two questions, so that qAcc and fAcc mean something.

    Four sets of held-out pictures, then four of a chart and its edited copy, in turn. Sets
    alternate between two patterns of answers, (figure 0, figure 1) per question:

    * alike:     pictures of one kind with different captions: "is it of the kind K" (yes, yes),
                 "does caption 0 fit" (yes, no); charts: a comparison that the edit leaves as it
                 was (yes, yes), and the edited one (yes, no)
    * different: pictures of two kinds: "is it of the kind K0" (yes, no), "is it of a third kind"
                 (no, no); charts: the edited comparison (yes, no), the other one reversed (no, no)

    Over both, half of the answers, a quarter of the question pairs and a quarter of the figures are
    all "yes", and as many all "no": a constant answer scores what guessing scores.

    Raises:
        LookupError: fewer than three kinds, or no kind with two pictures of different captions.
    """
    pairs = Pairs(held, rng)

    def make(number: int) -> Set:
        alike = number % 2 == 0
        if number % 8 >= 4:
            return edited(rng, alike)
        return pairs.alike() if alike else pairs.different()

    rows = []
    for number, (first, second, questions) in fresh(units, make, _about):
        subcategory = held.source if number % 8 < 4 else CHARTS
        # which one is figure 0 changes every second set: position must not give answers away
        figures = [(first, 0), (second, 1)] if number % 4 < 2 else [(second, 1), (first, 0)]
        for figure, (picture, which) in enumerate(figures):
            for question, (text, *truth) in enumerate(questions):
                row = _row(subcategory, number, figure, question, text, picture, truth[which])
                rows.append(row)
    return rows


def _about(made: Set) -> set[Any]:
    """Which figure is asked what."""
    first, second, questions = made
    return {(text, f.where or f.data) for text, *_ in questions for f in (first, second)}


def edited(rng: random.Random, alike: bool) -> Set:
    """A bar chart, and the same with two of its values exchanged."""
    chart = charts.make(rng, "bar")
    names = rng.sample(list(chart.values), 4)
    (low, high), (small, large) = (
        sorted(pair, key=lambda name: chart.values[name]) for pair in (names[:2], names[2:])
    )
    values = chart.values | {high: chart.values[low], low: chart.values[high]}
    swapped = replace(chart, values=values)
    seed = rng.random()  # the copies look the same but for the edit
    first, second = (
        Picture("", CHARTS, f"{made.title}: {made.values}", _painted(made, seed), "")
        for made in (chart, swapped)
    )
    changed = (ask_greater(high, low), True, False)
    if alike:
        return first, second, [(ask_greater(large, small), True, True), changed]
    return first, second, [changed, (ask_greater(small, large), False, False)]


def _painted(chart: charts.Chart, seed: float) -> bytes:
    return png(charts.paint(chart, random.Random(seed)))


def ask_greater(one: str, two: str) -> str:
    """The yes/no question about two bars."""
    return f"Is the value of {one} greater than the value of {two}?"


class Pairs:
    """Draws pairs of held-out pictures and the two questions about them."""

    def __init__(self, held: HeldOut, rng: random.Random) -> None:
        self.rng = rng
        self.by_kind: dict[str, list[Picture]] = {}
        for picture in held.pictures:
            self.by_kind.setdefault(picture.category, []).append(picture)
        self.kinds = sorted(self.by_kind)
        self.rich = [kind for kind in self.kinds if self._apart(self.by_kind[kind])]
        if len(self.kinds) < 3 or not self.rich:
            raise LookupError(
                f"yes/no pairs need three kinds of held-out pictures and two captions within one; "
                f"{held.root} holds {len(self.kinds)} kinds, {len(self.rich)} with two captions"
            )

    def alike(self) -> Set:
        kind = self.rng.choice(self.rich)
        first, second = self.rng.choice(self._apart(self.by_kind[kind]))
        return first, second, [(ask_kind(kind), True, True), (ask_caption(first), True, False)]

    def different(self) -> Set:
        one, two, third = self.rng.sample(self.kinds, 3)
        first, second = self.rng.choice(self.by_kind[one]), self.rng.choice(self.by_kind[two])
        return first, second, [(ask_kind(one), True, False), (ask_kind(third), False, False)]

    @staticmethod
    def _apart(pictures: list[Picture]) -> list[tuple[Picture, Picture]]:
        return [
            (a, b)
            for a in pictures
            for b in pictures
            if a.caption and b.caption and not overlap(a.caption, b.caption)
        ]


def ask_kind(kind: str) -> str:
    """The yes/no question about a kind, in the wording of the training data."""
    return ASK_YES_NO[0].format(thing=with_article(kind))


def ask_caption(picture: Picture) -> str:
    """The yes/no question about a caption, in the wording of the training data."""
    return ASK_MATCH[0].format(caption=picture.caption)


def _row(
    subcategory: str,
    number: int,
    figure: int,
    question: int,
    text: str,
    picture: Picture,
    yes: bool,
) -> dict[str, Any]:
    return {
        "category": "VD",
        "subcategory": subcategory,
        "visual_input": "1",
        "set_id": str(number),
        "figure_id": str(figure),
        "sample_note": picture.category,
        "question_id": str(question),
        "question": text,
        "gt_answer_details": f"{'Yes' if yes else 'No'}: it shows {picture.caption}",
        "gt_answer": str(int(yes)),
        "filename": f"./{subcategory}/{number}_{figure}.png",
        "image": picture.data,
    }
