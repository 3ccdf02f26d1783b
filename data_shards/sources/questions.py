"""Conversations about a picture whose caption and category are known, for all image sources."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from omni.processing.messages import Message, assistant, image, user

from .base import Deck, SourceError

# which kind comes first, by variant: the category in a third of them, because later answers of a
# conversation can lean on earlier ones and only the first has to be read off the picture
FIRST = ("category", "caption", "choice", "category", "yes_no", "match")
KINDS = ("category", "caption", "choice", "yes_no", "match")
ALL_KINDS = ",".join(KINDS)

ASK_CAPTION = ("What is this?", "What do you see in this picture?", "Describe the picture briefly.")
ASK_CATEGORY = (
    "What kind of thing is this?",
    "What kind of thing is shown?",
    "Which kind of thing does the picture show? Answer with one word.",
)
ASK_YES_NO = (
    "Is this {thing}?",
    "Is this {thing}? Answer yes or no.",
    "Does the picture show {thing}?",
)
ASK_MATCH = (
    'Does "{caption}" describe this picture?',
    'Does "{caption}" describe this picture? Answer yes or no.',
    'Is "{caption}" a right caption for this picture?',
)
MASS_NOUNS = ("food", "clothing")
ASK_CHOICE = (
    "What kind of thing is shown?\n{options}\nPlease answer directly with only the letter of the "
    "correct option and nothing else.",
    "What kind of thing is this?\n{options}\nAnswer with the option's letter from the given "
    "choices directly.",
)


@dataclass(frozen=True, slots=True)
class Picture:
    """What is known about an image: `identity` says which images are the same thing."""

    identity: str
    category: str
    caption: str
    licence: str


def with_article(noun: str) -> str:
    """Put the noun as a question would: an animal, a plant, food."""
    if noun in MASS_NOUNS:
        return noun
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


class Questioner:
    """Make question-and-answer turns over a set of pictures, with Yes/No and letters balanced.

    Wrong captions and wrong categories are those of other pictures, so that each is asked
    about as often when it is wrong as when it is right, and a blind guess gains nothing.
    """

    def __init__(
        self, pictures: Sequence[Picture], rng: np.random.Generator, kinds: str = ALL_KINDS
    ):
        self.pictures, self.rng, self.kinds = pictures, rng, parse_kinds(kinds)
        self.first = tuple(kind for kind in FIRST if kind in self.kinds)
        self.categories = sorted({picture.category for picture in pictures})
        self.decks = {
            "yes_no": Deck(("Yes", "No"), rng),
            "match": Deck(("Yes", "No"), rng),
            "letter": Deck("ABCD"[: len(self.categories)], rng),
        }
        self._turns: dict[str, Callable[[Picture], tuple[str, str]]] = {
            "category": self._category,
            "caption": self._caption,
            "yes_no": self.yes_no,
            "match": self._match,
            "choice": self._choice,
        }

    def conversation(self, picture: Picture, ref: str, variant: int, turns: int) -> list[Message]:
        """Return `turns` turns of different kinds about one image; `variant` rotates the first."""
        first = self.first_kind(variant)
        rest = [kind for kind in self.kinds if kind != first]
        kinds = [first, *(rest[i] for i in self.rng.permutation(len(rest))[: turns - 1])]
        messages: list[Message] = []
        for kind in kinds:
            question, answer = self._turns[kind](picture)
            messages.append(user(question) if messages else user(image(ref), question))
            messages.append(assistant(answer))
        return messages

    def first_kind(self, variant: int) -> str:
        """Return the kind of the first turn of a variant."""
        return self.first[variant % len(self.first)]

    def _pick(self, questions: Sequence[str]) -> str:
        # the first wording, which evaluation uses, is as frequent as all the others together
        others = len(questions) - 1
        return questions[max(0, int(self.rng.integers(-others, others)) + 1)]

    def _category(self, picture: Picture) -> tuple[str, str]:
        return self._pick(ASK_CATEGORY), picture.category

    def _caption(self, picture: Picture) -> tuple[str, str]:
        return self._pick(ASK_CAPTION), picture.caption

    def _other(self, differs: Callable[[Picture], bool]) -> Picture | None:
        for _ in range(100):
            other = self.pictures[int(self.rng.integers(len(self.pictures)))]
            if differs(other):
                return other
        return None

    def yes_no(self, picture: Picture) -> tuple[str, str]:
        """Return a question whether the picture shows a category, and its answer."""
        answer, category = self.decks["yes_no"].draw(), picture.category
        other = self._other(lambda p: p.category != category) if answer == "No" else picture
        if other is None:
            return self.yes_no(picture)
        return self._pick(ASK_YES_NO).format(thing=with_article(other.category)), answer

    def _match(self, picture: Picture) -> tuple[str, str]:
        answer = self.decks["match"].draw()
        other = self._other(lambda p: p.caption != picture.caption) if answer == "No" else picture
        if other is None:
            return self._match(picture)
        return self._pick(ASK_MATCH).format(caption=other.caption), answer

    def _choice(self, picture: Picture) -> tuple[str, str]:
        letter = self.decks["letter"].draw()
        wrong = [category for category in self.categories if category != picture.category]
        options = [wrong[i] for i in self.rng.permutation(len(wrong))[:3]]
        options.insert("ABCD".index(letter), picture.category)
        lines = "\n".join(f"{name}. {text}" for name, text in zip("ABCD", options, strict=False))
        return self._pick(ASK_CHOICE).format(options=lines), letter


def parse_kinds(kinds: str) -> tuple[str, ...]:
    """Split a comma-separated list of kinds.

    Raises:
        SourceError: one of them does not exist.
    """
    found = tuple(kind.strip() for kind in kinds.split(","))
    if unknown := [kind for kind in found if kind not in KINDS]:
        raise SourceError(f"--kinds: {', '.join(unknown)!r} is none of {ALL_KINDS}")
    return found


def caption_only(picture: Picture, ref: str) -> list[Message]:
    """Return the one conversation of a held-out image."""
    return [user(image(ref), ASK_CAPTION[0]), assistant(picture.caption)]
