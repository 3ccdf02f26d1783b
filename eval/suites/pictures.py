"""Rows on sets of pictures that stand for themselves: easy-VQA's questions, and photographs."""

import random
from collections import Counter, defaultdict
from typing import Any

from data_shards.sources.questions import ASK_CAPTION, ASK_CATEGORY
from omni.processing.messages import bind, image, media_refs, user

from ..rows.heldout import HeldOut, prompt_and_expected, question_text
from ..rows.own import CONTROLLED, SEED, Doc, MissingDataError, Own
from ..scoring.right import open_answers
from .scores import by_pairs, contained


def asked(held: HeldOut, kind: str, source: str) -> list[Any]:
    """The held-out samples of a kind.

    Raises:
        MissingDataError: there is none; says how to build them.
    """
    if samples := held.asked.get(kind):
        return samples
    raise MissingDataError(
        f"no held-out sample of kind {kind!r} under {held.root}; "
        f"`omni-shards build {source} --out {held.root / source}` makes them"
    )


def easyvqa_docs(held: HeldOut) -> list[Doc]:
    """The open questions of easy-VQA's test set, to the letter; by colour and shape."""
    docs = []
    for sample in asked(held, "easyvqa_open", "easyvqa"):
        prompt, expected = prompt_and_expected(sample)
        question = question_text(prompt)
        kind = "colour" if "color" in question else "shape"
        identity = str(sample.meta["identity"])
        docs.append(
            Doc(sample.key, bind(prompt, sample.parts), question, expected, identity, category=kind)
        )
    return docs


def easyvqa_chance(held: HeldOut) -> float:
    """What the most frequent answer to each question scores: all that can be known blind."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for doc in easyvqa_docs(held):
        answers[doc.question][doc.expected] += 1
    right = sum(max(counts.values()) for counts in answers.values())
    return 100 * right / sum(counts.total() for counts in answers.values())


def category_docs(held: HeldOut) -> list[Doc]:
    """Photographs asked about as drawings are, equally many of each category."""
    photos: dict[str, list[Any]] = defaultdict(list)
    for sample in asked(held, "photo", "photos"):
        photos[str(sample.meta["category"])].append(sample)
    rng, each = random.Random(SEED), min(map(len, photos.values()))
    chosen = [sample for _, some in sorted(photos.items()) for sample in rng.sample(some, each)]
    return [_photo_doc(sample, ASK_CATEGORY[0], str(sample.meta["category"])) for sample in chosen]


def name_docs(held: HeldOut) -> list[Doc]:
    """Photographs whose name is known."""
    named = [sample for sample in asked(held, "photo", "photos") if sample.meta.get("name")]
    if not named:
        raise MissingDataError(f"no photograph under {held.root} has a name")
    return [_photo_doc(sample, ASK_CAPTION[0], str(sample.meta["name"])) for sample in named]


def _photo_doc(sample: Any, question: str, expected: str) -> Doc:
    name = next(ref for kind, ref in media_refs(sample.messages) if kind == "image")
    messages = [user(image(sample.parts[name]), question)]
    return Doc(
        sample.key, messages, question, expected, str(sample.meta["identity"]),
        category=str(sample.meta["category"]),
    )  # fmt: skip


CONTROLS = ("blind", "shuffled_images")
ROWS = (
    Own(
        "easyvqa",
        easyvqa_docs,
        open_answers,
        CONTROLS,
        6,
        150,
        chance=easyvqa_chance,
        controlled=CONTROLLED,
    ),
    Own("photos_category", category_docs, open_answers, CONTROLS, 12, controlled=CONTROLLED),
    Own("photos_name", name_docs, by_pairs(contained), CONTROLS, 24, controlled=CONTROLLED),
)
