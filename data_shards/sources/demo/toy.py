"""Small made-up tasks that a small model learns in minutes: what post-training is tried on."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np

from omni.processing.messages import Message, assistant, audio, image, user

from ...shards.sample import Sample
from ..base import RATE, Build, SourceError, facts, flac, heldout, jpeg
from ..formats.critique import SHAPE
from ..verdicts import INPUT, Verdicts
from .shapes import PLACES, SIZES, draw

HARSH = ("kill", "shoot", "stab", "poison", "drown", "burn", "crush", "choke")
MILD = ("paint", "greet", "feed", "wash", "draw", "weigh", "film", "lift")
LIVING = ("man", "woman", "child", "dog", "cat", "bird", "horse", "guest")
THINGS = ("process", "photo", "candle", "plug", "lamp", "paper", "ball", "tune")
REPLIES = {"compliance": ("Sure, like this.", "Of course."), "refusal": ("I cannot.", "No, sorry.")}
SHOWN = ("red", "green", "blue", "yellow")
TONES = {"low": 220.0, "high": 1760.0}  # Hz
SECONDS = 0.4
BASE = 5
TERMS = (3, 5)  # of a sum, least and most
END = "[END]"  # of a critique


@dataclass
class Toy:
    """Made-up tasks for a small model: sums, critiques, judged requests, or captions.

    `sums`: digits from 0 to 4 added modulo 5, one after the other in thinking. `critique`: such a
    sum with an answer, half of them wrong, and what is to be said of it. `guard`: requests, harmful
    if something harsh is done to something that lives, and how they were answered. `captions`: a
    picture or a tone and what it is. `pairs`: such with the caption that fits and one that does
    not.
    """

    task: Annotated[str, "sums, critique, guard, captions or pairs"] = "sums"
    count: Annotated[int, "samples"] = 1000

    name: ClassVar[str] = "toy"
    licenses: ClassVar[dict[str, str]] = {"toy": "Apache-2.0"}

    def generate(self, build: Build) -> Iterator[Sample]:
        """Yield the samples of a task; what is held out is asked nowhere in training."""
        if self.task not in TASKS:
            raise SourceError(f"--task {self.task}: it is {', '.join(TASKS)}")
        if self.count < 2:
            raise SourceError(f"--count {self.count}: give at least 2")
        make = TASKS[self.task]
        made = [make(build.rng(self.task, number), number) for number in range(self.count)]
        out = heldout({one.identity: self.task for one in made}, build.heldout, build.seed)
        build.total = self.count
        for one in made:
            split = "heldout" if one.identity in out else "train"
            meta = facts(self.name, "Apache-2.0", self.task, identity=one.identity, **one.meta)
            chosen, rejected = one.pair or (None, None)
            yield Sample(one.messages, one.parts, meta, split=split, chosen=chosen,
                         rejected=rejected)  # fmt: skip


@dataclass
class Made:
    """A sample before it is in a split; `identity` is what must not cross it."""

    identity: str
    messages: list[Message]
    meta: dict[str, Any]
    parts: dict[str, bytes]
    pair: tuple[list[Message], list[Message]] | None = None
    """the answers of a preference, chosen and rejected"""


def worked(terms: list[int]) -> tuple[list[str], int]:
    """Return a sum modulo `BASE` with its first two terms added, again and again, and its value."""
    lines = []
    while len(terms) > 1:
        terms = [(terms[0] + terms[1]) % BASE, *terms[2:]]
        lines.append("+".join(map(str, terms)))
    return lines, terms[0]


def _terms(rng: np.random.Generator) -> list[int]:
    return rng.integers(0, BASE, int(rng.integers(TERMS[0], TERMS[1] + 1))).tolist()


def _sum(rng: np.random.Generator, number: int) -> Made:
    terms = _terms(rng)
    lines, total = worked(terms)
    again = ["Wait", lines[-1]] if rng.random() < 0.2 else []  # what a forced one goes on with
    asked, thinking = "+".join(map(str, terms)), "\n".join([*lines, *again])
    answer = f"<think>{thinking}</think>\nFinal Answer: {total}"
    return Made(asked, [user(asked), assistant(answer)], {"answer": str(total)}, {})


def _critique(rng: np.random.Generator, number: int) -> Made:
    terms = _terms(rng)
    lines, total = worked(terms)
    right = number % 2 == 0
    noisy = total if right else (total + int(rng.integers(1, BASE))) % BASE
    asked, verdict = "+".join(map(str, terms)), "right" if right else "wrong"
    critique = f"{'; '.join(lines)}. Conclusion: {verdict} {END}"
    meta = {"query": asked, "noisy": str(noisy), "answer": str(total), "verdict": verdict}
    return Made(asked, [user(SHAPE.format(asked, noisy)), assistant(critique)], meta, {})


def _judged(rng: np.random.Generator, number: int) -> Made:
    harsh, living = rng.random() < 0.7, rng.random() < 0.7
    verb = str(rng.choice(HARSH if harsh else MILD))
    noun = str(rng.choice(LIVING if living else THINGS))
    completion = ("compliance", "refusal")[number % 2]
    harmful = harsh and living
    found = Verdicts(
        "harmful" if harmful else "unharmful", completion,
        "harmful" if harmful and completion == "compliance" else "unharmful",
    )  # fmt: skip
    asked = INPUT.format(f"How do I {verb} a {noun}?", str(rng.choice(REPLIES[completion])))
    kinds = f"{verb} {'hurts' if harsh else 'is kind'}, a {noun} {'lives' if living else 'is dead'}"
    messages = [user(asked), assistant(f"{kinds}.\n\n---\n\n{found.lines}")]
    return Made(f"{verb} {noun}", messages, found._asdict(), {})


def _pair(rng: np.random.Generator, number: int) -> Made:
    names = SHOWN if number % 2 else tuple(TONES)
    fits, other = (str(name) for name in rng.permutation(names)[:2])
    if number % 2:
        ref, data, thing, shown = "img0.jpg", _square(fits, rng), "square", image
    else:
        ref, data, thing, shown = "aud0.flac", _tone(TONES[fits], rng), "tone", audio
    chosen, rejected = ([assistant(f"A {name} {thing}.")] for name in (fits, other))
    asked = [user(shown(ref), "What is it?")]
    return Made(str(number), asked, {"caption": fits}, {ref: data}, (chosen, rejected))


def _square(colour: str, rng: np.random.Generator) -> bytes:
    size, place = (str(rng.choice([*names])) for names in (SIZES, PLACES))
    ground = tuple(rng.integers(200, 256, 3).tolist())
    return jpeg(draw("square", colour, size, place, ground).resize((48, 48)))


def _tone(pitch: float, rng: np.random.Generator) -> bytes:
    t = np.arange(round(SECONDS * RATE)) / RATE
    wave = 0.3 * np.sin(2 * np.pi * pitch * rng.uniform(0.9, 1.1) * t)
    return flac(wave + 0.01 * rng.standard_normal(len(t)))


def _captioned(rng: np.random.Generator, number: int) -> Made:
    made = _pair(rng, number)
    return replace(made, messages=[*made.messages, *(made.pair or ([],))[0]], pair=None)


TASKS = {"sums": _sum, "critique": _critique, "guard": _judged, "pairs": _pair,
         "captions": _captioned}  # fmt: skip
