"""Spoken questions about the images of a set of shards."""

from collections.abc import Iterator

import numpy as np

from omni.processing.messages import assistant, audio, image, user

from ...shards.sample import Sample
from ..base import Build, Deck, SourceError, digest, facts
from ..questions import ASK_CAPTION, ASK_CATEGORY, ASK_YES_NO, with_article
from .readers import Readers, Reading


def questions(
    readers: Readers, split: str, pictures: list[Sample], each: int, renditions: int, build: Build
) -> Iterator[Sample]:
    """Yield `each` questions per image: kinds in equal parts, Yes and No in equal parts.

    Held-out images are asked for their category or a yes or no; training ones also "What is
    this?". The rendition is drawn among those of the split.
    """
    rng = build.rng("spoken", split)
    kinds = ("category", "yes_no") if split == "heldout" else ("category", "yes_no", "caption")
    verdicts = Deck(("Yes", "No"), rng)
    heard: dict[tuple[str, int], Reading] = {}  # the questions are few
    pictures = sorted(pictures, key=lambda sample: digest(build.seed, sample.meta["identity"]))
    for turn in range(each):
        for index, picture in enumerate(pictures):
            kind, meta = kinds[(index + turn) % len(kinds)], picture.meta
            if kind == "yes_no":
                answer = verdicts.draw()
                noun = (
                    meta["category"] if answer == "Yes" else _wrong_category(picture, pictures, rng)
                )
                question = ASK_YES_NO[0].format(thing=with_article(noun))
            else:
                question = ASK_CATEGORY[0] if kind == "category" else ASK_CAPTION[0]
                answer = meta[kind]
            asked = question, int(rng.integers(renditions))
            if asked not in heard:
                heard[asked] = readers.read(question, split, asked[1])
            data, about, licence = heard[asked]
            name, media = next(iter(picture.parts.items()))
            licence = f"{meta.get('license', 'unknown')} and {licence}"
            more = {"answer": answer, "identity": meta["identity"], "category": meta["category"]}
            row = facts("speech", licence, "spoken_question", **about, **more)
            messages = [user(image(name), audio("aud0.flac")), assistant(answer)]
            yield Sample(messages, {name: media, "aud0.flac": data}, row, split=split)


def _wrong_category(picture: Sample, pictures: list[Sample], rng: np.random.Generator) -> str:
    # the category of another image, so that a noun is asked about as often in vain as rightly
    others = [
        p.meta["category"] for p in pictures if p.meta["category"] != picture.meta["category"]
    ]
    if not others:
        raise SourceError("yes/no questions need images of at least two categories")
    return others[rng.integers(len(others))]
