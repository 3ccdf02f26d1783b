"""Forms of a question: open, a claim to be judged, and options with letters, in equal parts."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..base import Deck
from .wordings import JOINTS, LAYOUTS, LETTER, SHORTLY, WORDINGS, YES_OR_NO

LETTERS = "ABCD"
FORMS = ("open", "yes_no", "choice")


@dataclass(frozen=True)
class Fact:
    """Something a picture shows: the right answer, and others that are wrong of this picture.

    `names` are what the wordings of its kind have between braces.
    """

    kind: str
    answer: str
    wrong: tuple[str, ...]
    names: tuple[tuple[str, str], ...] = ()


def fact(kind: str, answer: object, wrong: Sequence[object], **names: object) -> Fact:
    """Make a fact; what stands twice among the wrong answers, or is the right one, goes."""
    others = dict.fromkeys(str(other) for other in wrong)
    others.pop(str(answer), None)
    return Fact(
        kind, str(answer), tuple(others), tuple((key, str(name)) for key, name in names.items())
    )


def near(number: int, rng: random.Random, least: int = 0) -> list[int]:
    """Return five wrong numbers not far from a right one, above and below it alike if they can."""
    step = max(1, number // 12)
    around = [number + step * k for k in range(-5, 6) if k and number + step * k >= least]
    return rng.sample(around, min(5, len(around)))


@dataclass(frozen=True)
class Turn:
    """One question with its answer; `options` in order, where it has letters."""

    fact: Fact
    form: str
    question: str
    answer: str
    options: tuple[str, ...] = ()


class Forms:
    """Puts facts as questions: forms in equal parts, Yes and No in equal parts, letters likewise.

    Letters are balanced for each number of options by itself, because a blind guess knows it.
    """

    def __init__(self, rng: np.random.Generator):
        self._form = Deck(FORMS, rng)
        self._verdict = Deck(("Yes", "No"), rng)
        self._size = Deck("234", rng)
        self._letter = {size: Deck(LETTERS[:size], rng) for size in (2, 3, 4)}

    def turn(self, found: Fact, rng: random.Random, form: str = "") -> Turn:
        """Put a fact in the next form, or in the one that is wanted."""
        form = form or self._form.draw()
        if form == "yes_no" and WORDINGS[found.kind].claim:
            return self._claim(found, rng)
        if form == "choice":
            return self._choice(found, rng)
        question = _put(WORDINGS[found.kind].open, found, rng)
        return Turn(found, "open", _join(question, rng.choice(SHORTLY)), found.answer)

    def _claim(self, found: Fact, rng: random.Random) -> Turn:
        verdict = self._verdict.draw()
        answer = found.answer if verdict == "Yes" else rng.choice(found.wrong)
        question = _put(WORDINGS[found.kind].claim, found, rng, answer=answer)
        return Turn(found, "yes_no", _join(question, rng.choice(YES_OR_NO)), verdict)

    def _choice(self, found: Fact, rng: random.Random) -> Turn:
        size = min(int(self._size.draw()), len(found.wrong) + 1)
        letter = self._letter[size].draw()
        options = rng.sample(found.wrong, size - 1)
        options.insert(LETTERS.index(letter), found.answer)
        question = _put(WORDINGS[found.kind].open, found, rng)
        lines = (question, listed(options, rng), rng.choice(LETTER))
        return Turn(found, "choice", "\n".join(lines), letter, tuple(options))

    def behind(self, options: Sequence[str], rng: random.Random) -> Turn:
        """Ask for the option of a letter, openly or as a claim."""
        at = rng.randrange(len(options))
        wrong = [option for option in options if option != options[at]]
        found = fact("behind", options[at], wrong, letter=LETTERS[at])
        asked = self._claim(found, rng) if rng.random() < 0.5 else self.turn(found, rng, "open")
        question = f"{listed(options, rng)}\n{asked.question}"
        return replace(asked, question=question, options=tuple(options))


def listed(options: Sequence[str], rng: random.Random) -> str:
    """Write options with their letters in one of several layouts."""
    layout, joint = rng.choice(LAYOUTS), rng.choice(JOINTS)
    pairs = zip(LETTERS, options, strict=False)
    return joint.join(layout.format(letter=letter, option=option) for letter, option in pairs)


def _put(wordings: Sequence[str], found: Fact, rng: random.Random, **more: str) -> str:
    text = rng.choice(wordings).format(**dict(found.names), **more)
    return text[0].upper() + text[1:]


def _join(*parts: str) -> str:
    return " ".join(filter(None, parts))
