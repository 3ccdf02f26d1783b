"""HallusionBench's shape: the same yes/no questions about two different held-out pictures."""

import random
from typing import Any

from data_shards.sources.questions import ASK_MATCH, ASK_YES_NO, with_article

from ..heldout import HeldOut, Picture
from .recognition import overlap


def hallusionbench(held: HeldOut, rng: random.Random, units: int) -> list[dict[str, Any]]:
    """`units` sets of two pictures and two questions, so that qAcc and fAcc mean something.

    Sets alternate between two patterns of answers, (picture 0, picture 1) per question:

    * same kind, other caption: "is it of the kind K" (yes, yes), "does caption 0 fit" (yes, no)
    * different kinds:          "is it of the kind K0" (yes, no), "is it of a third kind" (no, no)

    Over both, half of the answers, a quarter of the question pairs and a quarter of the figures are
    all "yes", and as many all "no": a constant answer scores what guessing scores.

    Raises:
        LookupError: fewer than three kinds, or no kind with two pictures of different captions.
    """
    pairs = Pairs(held, rng)
    rows = []
    for number in range(units):
        first, second, questions = pairs.alike() if number % 2 == 0 else pairs.different()
        # which picture is figure 0 changes every second set: position must not give answers away
        figures = [(first, 0), (second, 1)] if number % 4 < 2 else [(second, 1), (first, 0)]
        for figure, (picture, which) in enumerate(figures):
            for question, (text, *truth) in enumerate(questions):
                rows.append(_row(held, number, figure, question, text, picture, truth[which]))
    return rows


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

    def alike(self) -> tuple[Picture, Picture, list[tuple[str, bool, bool]]]:
        kind = self.rng.choice(self.rich)
        first, second = self.rng.choice(self._apart(self.by_kind[kind]))
        return first, second, [(ask_kind(kind), True, True), (ask_caption(first), True, False)]

    def different(self) -> tuple[Picture, Picture, list[tuple[str, bool, bool]]]:
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
    held: HeldOut, number: int, figure: int, question: int, text: str, picture: Picture, yes: bool
) -> dict[str, Any]:
    return {
        "category": "VD",
        "subcategory": held.source,
        "visual_input": "1",
        "set_id": str(number),
        "figure_id": str(figure),
        "sample_note": picture.category,
        "question_id": str(question),
        "question": text,
        "gt_answer_details": f"{'Yes' if yes else 'No'}: it shows {picture.caption}",
        "gt_answer": str(int(yes)),
        "filename": f"./{held.source}/{number}_{figure}.png",
        "image": picture.data,
    }
