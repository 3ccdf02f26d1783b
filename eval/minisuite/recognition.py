"""What is on a held-out picture: circular MMBench questions and RealWorldQA letters."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from ..benchmarks.letters import COPY
from ..rows.heldout import HeldOut, Picture
from ..scoring.right import normalise

LETTERS = "ABCD"
LONGEST_CAPTION = 40  # characters; four long ones would cost more than the picture
ASK_KIND = "What kind of thing is shown in the picture?"
ASK_CAPTION = "Which caption fits the picture?"
ONLY_LETTER = "Please answer directly with only the letter of the correct option and nothing else."


@dataclass(frozen=True)
class Question:
    """Options in order; `answer` is the right one's letter."""

    picture: Picture
    text: str
    options: list[str]
    answer: str


def mmbench(held: HeldOut, rng: random.Random, units: int) -> list[dict[str, Any]]:
    """`units` questions, each in as many rotated copies as it has options."""
    return [
        row
        for number, question in enumerate(questions(held, rng, units))
        for row in circular_copies(question, number, "image_topic", held.source)
    ]


def circular_copies(
    question: Question, number: int, category: str, source: str
) -> list[dict[str, Any]]:
    """MMBench's rows of one question: the options turn, the index grows by `COPY`."""
    right = question.options[LETTERS.index(question.answer)]
    rows = []
    for turn in range(len(question.options)):
        options = question.options[turn:] + question.options[:turn]
        rows.append(
            {
                "index": number + COPY * turn,
                "question": question.text,
                "answer": LETTERS[options.index(right)],
                **dict(zip(LETTERS, options, strict=False)),
                "category": category,
                "L2-category": "coarse_perception",
                "image": question.picture.data,
                "source": source,
                "split": "dev",
            }
        )
    return rows


def realworldqa(held: HeldOut, rng: random.Random, units: int) -> list[dict[str, Any]]:
    """`units` questions with their lettered options inside the question."""
    rows = []
    for number, made in enumerate(questions(held, rng, units)):
        lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, made.options, strict=False)]
        rows.append(
            {
                "image": made.picture.data,
                "image_path": f"{number}.png",
                "question": "\n".join([made.text, "", *lines, ONLY_LETTER]),
                "answer": made.answer,
            }
        )
    return rows


def questions(held: HeldOut, rng: random.Random, units: int) -> list[Question]:
    """As many about kinds as about captions, where captions differ enough.

    Within each sort the kinds of pictures take turns and the letters are assigned in equal numbers,
    independently, so that neither the wording nor the options tell which letter is right.

    Raises:
        LookupError: fewer than two kinds of pictures are held out.
    """
    categories = sorted({picture.category for picture in held.pictures})
    if len(categories) < 2:
        raise LookupError(
            f"recognition needs held-out pictures of two kinds or more; {held.root} holds "
            f"{len(held.pictures)} pictures of {len(categories)}"
        )
    captioned = [p for p in held.pictures if 0 < len(p.caption) <= LONGEST_CAPTION]
    captions = sorted({picture.caption for picture in captioned})
    if len(captions) <= len(LETTERS):
        captioned = []
    about_captions = units // 2 if captioned else 0
    made = [
        ask(ASK_KIND, picture, picture.category, categories, rng)
        for picture in spread(held.pictures, rng, units - about_captions)
    ]
    letters = assign_letters(made, rng)
    made_captions = [
        ask(ASK_CAPTION, picture, picture.caption, captions, rng)
        for picture in spread(captioned, rng, about_captions)
    ]
    letters += assign_letters(made_captions, rng)
    return [
        place(question, letter, rng)
        for question, letter in zip(made + made_captions, letters, strict=True)
    ]


def ask(
    text: str, picture: Picture, right: str, pool: Sequence[str], rng: random.Random
) -> Question:
    """A question with the right option first."""
    return Question(picture, text, [right, *distractors(right, pool, rng)], LETTERS[0])


def assign_letters(made: Sequence[Question], rng: random.Random) -> list[str]:
    """A letter for each question, every letter equally often, in random order."""
    order = [LETTERS[k % len(question.options)] for k, question in enumerate(made)]
    if len({len(question.options) for question in made}) == 1:
        rng.shuffle(order)
    return order


def place(question: Question, letter: str, rng: random.Random) -> Question:
    """The same question with its right option under `letter`."""
    right, *wrong = question.options
    rng.shuffle(wrong)
    wrong.insert(LETTERS.index(letter), right)
    return Question(question.picture, question.text, wrong, letter)


def spread(pictures: Sequence[Picture], rng: random.Random, n: int) -> list[Picture]:
    """`n` pictures, kinds in turn, so that a frequent one does not fill the benchmark.

    None comes twice; where there are fewer than `n`, it is all of them.
    """
    by_category: dict[str, list[Picture]] = {}
    for picture in rng.sample(list(pictures), len(pictures)):
        by_category.setdefault(picture.category, []).append(picture)
    kinds = [by_category[name] for name in rng.sample(sorted(by_category), len(by_category))]
    rounds = zip_longest(*kinds)
    return [picture for picture in chain.from_iterable(rounds) if picture is not None][:n]


def distractors(right: str, pool: Sequence[str], rng: random.Random) -> list[str]:
    """Up to three wrong options; none contains another, for scorers also look for option texts."""
    chosen: list[str] = []
    for text in rng.sample(list(pool), len(pool)):
        if not any(overlap(text, other) for other in [right, *chosen]):
            chosen.append(text)
        if len(chosen) == len(LETTERS) - 1:
            break
    return chosen


def overlap(a: str, b: str) -> bool:
    """Whether one text is contained in the other."""
    a, b = normalise(a), normalise(b)
    return a in b or b in a
