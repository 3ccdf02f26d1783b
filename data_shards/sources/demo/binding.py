"""Questions in text alone whose options are known by heart: what an option's letter stands for.

A small LLM knows that a cat is an animal long before it can say under which letter it stands.
"""

import random
from collections.abc import Callable

from ..questions import with_article
from .forms import LETTERS, Fact, Forms, Turn, fact
from .words import CAPITALS, OPPOSITES

# nouns that are of their kind beyond doubt, and of no other one here
NOUNS = {
    "animal": "cat dog cow sheep goat lion tiger bear wolf frog snake eagle whale rabbit",
    "plant": "rose tulip daisy fern cactus ivy moss bamboo lily willow",
    "vehicle": "car bus truck bicycle ship tractor tram ferry scooter van",
    "food": "cheese soup rice cake pasta pizza salad butter honey noodles",
    "tool": "hammer saw drill spade axe wrench rake chisel shovel screwdriver",
    "building": "castle tower church palace lighthouse barn factory museum hotel cottage",
    "colour": "red blue green yellow purple brown black white grey pink",
    "garment": "shirt coat hat glove sock scarf skirt jacket boot sweater",
    "instrument": "piano violin flute drum trumpet harp cello banjo tuba oboe",
}
KINDS_OF = {noun: kind for kind, nouns in NOUNS.items() for noun in nouns.split()}


class Binding:
    """Makes such questions about the nouns, words and countries of one split."""

    def __init__(self, known: set[str], forms: Forms):
        self.forms = forms
        self.nouns = [noun for noun in KINDS_OF if noun in known]
        self.opposites = {one: two for one, two in OPPOSITES.items() if one in known}
        self.capitals = {one: two for one, two in CAPITALS.items() if one in known}
        self._ask: list[Callable[[random.Random], Fact]] = [
            self._member, self._says, self._opposite, self._capital, self._largest
        ]  # fmt: skip

    def turn(self, rng: random.Random) -> Turn:
        """Return the next question: in three of four a letter is the answer, else it is asked."""
        if rng.random() < 0.25:
            return self.forms.behind(rng.sample(self.nouns, rng.randint(2, 4)), rng)
        return self.forms.turn(rng.choice(self._ask)(rng), rng, "choice")

    def _member(self, rng: random.Random) -> Fact:
        noun = rng.choice(self.nouns)
        kind = KINDS_OF[noun]
        others = [other for other in self.nouns if KINDS_OF[other] != kind]
        return fact("member", noun, rng.sample(others, 3), thing=with_article(kind))

    def _says(self, rng: random.Random) -> Fact:
        noun, *others = rng.sample(self.nouns, len(LETTERS))
        return fact("says", noun, others, text=noun)

    def _opposite(self, rng: random.Random) -> Fact:
        word, answer = rng.choice(list(self.opposites.items()))
        others = [two for one, two in OPPOSITES.items() if one != word]
        return fact("opposite", answer, rng.sample(others, 3), word=word)

    def _capital(self, rng: random.Random) -> Fact:
        country, city = rng.choice(list(self.capitals.items()))
        others = [other for other in CAPITALS.values() if other != city]
        return fact("capital", city, rng.sample(others, 3), country=country)

    def _largest(self, rng: random.Random) -> Fact:
        *others, largest = sorted(rng.sample(range(1, rng.choice((20, 100, 1000))), len(LETTERS)))
        return fact("largest", largest, others)


def items() -> dict[str, str]:
    """Return everything that is in training or held out, never both, with its kind."""
    return KINDS_OF | dict.fromkeys(OPPOSITES, "opposite") | dict.fromkeys(CAPITALS, "capital")
