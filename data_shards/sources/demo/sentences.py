"""Short sentences made by a grammar, and captions; held out by text."""

import string
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ...read.entry import find_shards, read_shard
from ..base import Build, SourceError, heldout
from ..questions import with_article
from .words import (
    CAPITALS,
    COLOURS,
    DAYS,
    MONTHS,
    NAMES,
    NUMBERS,
    OPPOSITES,
    PEOPLE,
    PLACES,
    PLURALS,
    PREPOSITIONS,
    THINGS,
    WORDS,
)

MOST = 50_000  # sentences: the grammar makes so many different ones without trouble
MAX_CHARACTERS = 120  # of a caption: about eight seconds
NOUNS = tuple(dict.fromkeys((*WORDS, *THINGS, *PLURALS)))
ADJECTIVES = (
    "big",
    "small",
    "old",
    "new",
    "long",
    "soft",
    "clean",
    "wet",
    "dry",
    "heavy",
    *COLOURS,
)
PLURAL = tuple(dict.fromkeys(PLURALS.values()))
MASS = {"bread", "coffee", "fish", "hand", "money", "morning", "mountain", "paper", "rain", "river"}
MASS |= {"school", "sugar", "summer", "water", "milk", "rice", "butter", "music", "snow", "sand"}
MADE, CAPTION = "made", "caption"  # categories
Draw = Callable[[Sequence[str]], str]


def split(count: int, captions: Path | None, build: Build) -> dict[str, dict[str, str]]:
    """Return the sentences of each split, with "made" or "caption" for each.

    No training sentence has the words of a held-out one. Captions are split as the shards are.

    Raises:
        SourceError: so many sentences are not made, or there are no captions.
    """
    if not 0 <= count <= MOST:
        raise SourceError(f"--sentences {count}: give a number up to {MOST:,}")
    made = _made(count, build.rng("sentences"))
    out = heldout(dict.fromkeys(made, MADE), build.heldout, build.seed)
    found = {
        "train": {text: MADE for text in made if text not in out},
        "heldout": {text: MADE for text in made if text in out},
    }
    if captions:
        for name, texts in _captions(captions, build).items():
            found[name] |= {text: CAPTION for text in texts if text not in found[name]}
    unseen = set(map(words_of, found["heldout"]))
    both = [text for text in found["train"] if words_of(text) in unseen]
    for text in both:
        del found["train"][text]
    build.facts["sentences"] = {name: len(texts) for name, texts in found.items()}
    if both:
        build.say(f"{len(both)} training sentences are held out under another writing: left out")
    return found


def words_of(text: str) -> str:
    """Return what is heard of a text: lower case, without punctuation and double spaces."""
    return " ".join(text.lower().translate(str.maketrans("", "", string.punctuation)).split())


def _captions(folder: Path, build: Build) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"train": [], "heldout": []}
    for shard in find_shards(f"{folder}/*-[0-9]*.tar"):
        for sample in read_shard(shard, lambda bad: build.skip(str(bad), "left out")):
            text = str(sample.meta.get("caption", "")).strip()
            if len(text) > MAX_CHARACTERS:
                build.skip(sample.where, f"its caption is over {MAX_CHARACTERS} characters")
            elif text:
                found["train" if sample.split == "train" else "heldout"].append(text)
    if not any(found.values()):
        raise SourceError(f"--captions {folder}: no sample there has a caption")
    return {name: list(dict.fromkeys(texts)) for name, texts in found.items()}


def _made(count: int, rng: np.random.Generator) -> list[str]:
    """Draw so many different sentences, every form equally often."""

    def draw(values: Sequence[str]) -> str:
        return values[int(rng.integers(len(values)))]

    texts: dict[str, str] = {}
    number = 0
    while len(texts) < count:
        text = FORMS[number % len(FORMS)](draw)
        texts.setdefault(words_of(text), text[0].upper() + text[1:])
        number += 1
    return list(texts.values())


def _some(draw: Draw) -> str:
    """A thing with an article: a wet dog, the bread."""
    noun = draw(NOUNS)
    return f"the {noun}" if noun in MASS else with_article(f"{draw(ADJECTIVES)} {noun}")


def _the(draw: Draw) -> str:
    return f"the {draw(ADJECTIVES)} {draw(NOUNS)}"


def _opposites(draw: Draw) -> str:
    one = draw([word for word in OPPOSITES if word not in ("begin", "win", "buy", "push", "love")])
    return f"{one} or {OPPOSITES[one]}"


FORMS: tuple[Callable[[Draw], str], ...] = (
    lambda d: f"{_some(d)} {d(PREPOSITIONS)} the {d(NOUNS)}.",
    lambda d: f"The {d(NOUNS)} is {d(ADJECTIVES)}.",
    lambda d: f"The {d(NOUNS)} is {d(PREPOSITIONS)} the {d(NOUNS)}.",
    lambda d: f"I see {_some(d)}.",
    lambda d: f"{d(NAMES)} has {d(NUMBERS[2:])} {d(PLURAL)}.",
    lambda d: f"{d(NUMBERS[2:])} {d(PLURAL)} and {d(NUMBERS[2:])} {d(PLURAL)}.",
    lambda d: f"Where is {_the(d)}?",
    lambda d: f"Is the {d(NOUNS)} {_opposites(d)}?",
    lambda d: f"The {d(PEOPLE)} went to the {d(PLACES)} on {d(DAYS)}.",
    lambda d: f"My {d(PEOPLE)} lives in {d(tuple(CAPITALS.values()))}.",
    lambda d: f"{d(NAMES)} {d(('saw', 'found', 'bought', 'took', 'brought'))} {_some(d)}.",
    lambda d: f"We were at the {d(PLACES)} in {d(MONTHS)}.",
    lambda d: f"{d(NAMES)} and {d(NAMES)} like the {d(PLACES)}.",
    lambda d: f"Give the {d(NOUNS)} to the {d(PEOPLE)}.",
    lambda d: f"{_the(d)} and {_the(d)}.",
    lambda d: (
        f"On {d(DAYS)} the {d(PLACES)} was {d(('open', 'closed', 'full', 'empty', 'quiet'))}."
    ),
)
