"""What is on a held-out picture: circular MMBench questions and RealWorldQA letters."""

import random
from collections.abc import Sequence
from typing import Any

from ..heldout import HeldOut, Picture
from ..scoring import normalise

LETTERS = "ABCD"
COPY = 1_000_000  # what MMBench adds to the index of each rotated copy
ASK_KIND = "What kind of thing is shown in the picture?"
ASK_CAPTION = "Which caption fits the picture?"
ONLY_LETTER = "Please answer directly with only the letter of the correct option and nothing else."


def mmbench(held: HeldOut, rng: random.Random, units: int) -> list[dict[str, Any]]:
    """`units` questions, each in as many rotated copies as it has options; letters balanced."""
    rows = []
    for number, (picture, question, right, wrong) in enumerate(questions(held, rng, units)):
        base = place(right, wrong, number, rng)
        for turn in range(len(base)):
            options = base[turn:] + base[:turn]
            rows.append(
                {
                    "index": number + COPY * turn,
                    "question": question,
                    "answer": LETTERS[options.index(right)],
                    **dict(zip(LETTERS, options, strict=False)),
                    "category": "image_topic",
                    "L2-category": "coarse_perception",
                    "image": picture.data,
                    "source": held.source,
                    "split": "dev",
                }
            )
    return rows


def realworldqa(held: HeldOut, rng: random.Random, units: int) -> list[dict[str, Any]]:
    """`units` questions with their lettered options inside the question; letters balanced."""
    rows = []
    for number, (picture, question, right, wrong) in enumerate(questions(held, rng, units)):
        options = place(right, wrong, number, rng)
        lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, options, strict=False)]
        rows.append(
            {
                "image": picture.data,
                "image_path": f"{number}.png",
                "question": "\n".join([question, "", *lines, ONLY_LETTER]),
                "answer": LETTERS[options.index(right)],
            }
        )
    return rows


def questions(
    held: HeldOut, rng: random.Random, units: int
) -> list[tuple[Picture, str, str, list[str]]]:
    """(picture, question, right option, wrong options): kinds and captions in turn.

    Raises:
        LookupError: fewer than two kinds of pictures are held out.
    """
    categories = sorted({picture.category for picture in held.pictures})
    if len(categories) < 2:
        raise LookupError(
            f"recognition needs held-out pictures of two kinds or more; {held.root} holds "
            f"{len(held.pictures)} pictures of {len(categories)}"
        )
    captions = sorted({picture.caption for picture in held.pictures if picture.caption})
    made = []
    for number, picture in enumerate(spread(held.pictures, rng, units)):
        ask_caption = number % 2 == 1 and picture.caption and len(captions) > len(LETTERS)
        right = picture.caption if ask_caption else picture.category
        wrong = distractors(right, captions if ask_caption else categories, rng)
        made.append((picture, ASK_CAPTION if ask_caption else ASK_KIND, right, wrong))
    return made


def spread(pictures: Sequence[Picture], rng: random.Random, n: int) -> list[Picture]:
    """`n` pictures, categories in turn, so that a frequent one does not fill the benchmark."""
    by_category: dict[str, list[Picture]] = {}
    for picture in rng.sample(list(pictures), len(pictures)):
        by_category.setdefault(picture.category, []).append(picture)
    names, chosen = sorted(by_category), []
    while len(chosen) < n:
        for name in names:
            kept = by_category[name]
            chosen.append(kept[len(chosen) // len(names) % len(kept)])
    return chosen[:n]


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


def place(right: str, wrong: Sequence[str], number: int, rng: random.Random) -> list[str]:
    """The options in order; the right one moves on by a letter from question to question."""
    options = rng.sample(list(wrong), len(wrong))
    options.insert(number % (len(wrong) + 1), right)
    return options
