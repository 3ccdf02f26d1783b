"""GeneralPoints (arXiv 2501.17161): a formula of the numbers on cards that makes a target."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from omni.entry import EntryError
from omni.processing.messages import Message, audio, image, user

from ..base import State, Verdict, draws, in_split
from ..options import check_options
from . import published, verifier
from .solver import solvable, solve
from .wordings import MOST, wordings_of

RANKS = ("A", *map(str, range(2, 11)), "J", "Q", "K")
JACK, KING, TEN = 11, 13, 10
TRIES = 20_000  # hands drawn before none is taken to exist
SUITS = {"black": ("S", "C"), "red": ("H", "D"), "any": ("S", "C", "H", "D")}
CHOICES = {
    "variant": ("text", "image", "spoken"),
    "faces": ("ten", "ranks"),
    "hands": ("any", "face", "paired"),
    "suits": tuple(SUITS),
    "answer": ("json", "formula"),
    "split": ("all", "train", "heldout"),
}


@dataclass(frozen=True)
class GeneralPoints:
    """Cards whose numbers, each used once, are to make a target."""

    variant: Annotated[str, "how the cards are shown: text, image or spoken"] = "text"
    faces: Annotated[str, "what J, Q and K count: ten, or their ranks 11, 12 and 13"] = "ten"
    target: Annotated[int, "what the formula is to equal"] = 24
    targets: Annotated[
        int, "how many targets there are, from that one up; every prompt names one of them"
    ] = 1
    cards: Annotated[int, "how many there are, 2 to 6"] = 4
    low: Annotated[int, "lowest rank, 1 is the ace"] = 1
    high: Annotated[int, "highest rank, 13 is the king"] = 13
    hands: Annotated[
        str,
        "any; face: with a face card at least; paired: the same, and solvable whatever face cards "
        "count, so that a seed is the same hand under both rules",
    ] = "any"
    suits: Annotated[str, "black, red or any"] = "black"
    side: Annotated[int, "of the image, in pixels; 1200 in the paper"] = 224
    answer: Annotated[str, "json as published, or formula: that alone"] = "json"
    wordings: Annotated[int, "how many wordings of the prompt there are, 1 to 12"] = 1
    attempts: Annotated[int, "answers to a prompt; 5 as published"] = 5
    split: Annotated[str, "hands that training may see, those that it may not, or all"] = "all"
    heldout: Annotated[float, "share of the hands that training may not see"] = 0.15
    voices: Annotated[str, "that read spoken cards, as of the source speech"] = "hibari,pico"
    legacy: Annotated[bool, "pay as the published code does, with its faults"] = False

    name: ClassVar[str] = "generalpoints"
    exhausted: ClassVar[float] = verifier.EXHAUSTED

    def __post_init__(self) -> None:
        check_options(self, CHOICES, {
            "cards": (2, 6), "low": (1, KING), "high": (1, KING), "side": (64, 4096),
            "wordings": (1, MOST), "attempts": (1, 100),
            "target": (0, 10**6), "targets": (1, 10**6),
        })  # fmt: skip
        if type(self.legacy) is not bool:
            raise EntryError(f"legacy is true or false, not {self.legacy!r}", "legacy")
        if self.high < self.low:
            raise EntryError(f"high is {self.high}, below low, which is {self.low}", "high")
        if self.hands != "any" and self.high < JACK:
            raise EntryError(
                f"hands {self.hands} have a face card, and high is {self.high}", "high"
            )
        if self.legacy and (self.cards != published.CARDS or self.answer != "json"):
            raise EntryError("the published code plays with 4 cards and json", "legacy")

    def state(self, seed: int) -> State:
        rng = draws(self.name, seed)
        target, hand = self._task(rng)
        tones = rng.integers(len(SUITS[self.suits]), size=self.cards)  # the same in red and black
        return {
            "seed": seed,
            "target": target,
            "cards": [RANKS[rank - 1] for rank in hand],
            "suits": [SUITS[self.suits][tone] for tone in tones],
            "wording": int(rng.integers(1 << 30)) % self.wordings,
        }

    def _task(self, rng: np.random.Generator) -> tuple[int, list[int]]:
        """Draw ranks until they can be solved; published: of a face hand three, and a face card."""
        target = self.target
        for _ in range(TRIES):
            if self.targets > 1:  # of one none is drawn, so that seeds stay the hands they were
                target = self.target + int(rng.integers(self.targets))
            hand = rng.integers(self.low, self.high + 1, size=self.cards)
            if self.hands != "any":
                hand[-1] = rng.integers(max(self.low, JACK), self.high + 1)
                rng.shuffle(hand)
            ranks = [int(rank) for rank in hand]
            if self._may_be(ranks, target):
                return target, ranks
        raise ValueError(f"{TRIES:,} hands of {self.cards} cards from {self.low} to {self.high}, "
                         f"and none that can make {target} (split {self.split})")  # fmt: skip

    def _may_be(self, ranks: Sequence[int], target: int) -> bool:
        if not in_split(identity(ranks), self.split, self.heldout):
            return False
        rules = ("ten", "ranks") if self.hands == "paired" else (self.faces,)
        return all(solvable(counts(ranks, rule), target) for rule in rules)

    def identity(self, state: State) -> str:
        """Return what is held out: the cards, in whatever order."""
        return identity(_ranks(state))

    def licence(self, state: State) -> str:
        """Return the licence of what a prompt shows: of the voice, where one reads."""
        if self.variant != "spoken":
            return "Apache-2.0"
        from .spoken import reading

        return reading(state, self.voices, self.split).license

    def numbers(self, state: State) -> list[int]:
        """Return what the cards count under this rule."""
        return counts(_ranks(state), self.faces)

    def prompt(self, state: State) -> tuple[list[Message], dict[str, bytes]]:
        wording = wordings_of(self.variant)[int(state.get("wording", 0)) % self.wordings]
        text = wording.text(self._target(state), self.faces, state["cards"], self.answer)
        if self.variant == "image":
            from .cards import table

            return [user(image("img0.png"), text)], {"img0.png": table(state, self.side)}
        if self.variant == "spoken":
            from .spoken import reading

            sound = reading(state, self.voices, self.split).data
            return [user(audio("aud0.flac"), text)], {"aud0.flac": sound}
        return [user(text)], {}

    def _target(self, state: State) -> int:
        return int(state.get("target", self.target))  # states of earlier shards have none

    def verify(self, state: State, answer: str) -> Verdict:
        shown = None if self.variant == "text" else state["cards"]
        if self.legacy:
            return published.verify(answer, self.numbers(state), self._target(state), shown)
        return verifier.verify(answer, self.answer, self.numbers(state), self._target(state), shown)

    def solution(self, state: State) -> str:
        target = self._target(state)
        formula = solve(self.numbers(state), target)
        if formula is None:
            raise ValueError(f"no formula of {state['cards']} makes {target}")
        if self.answer == "formula":
            return formula
        return written(state["cards"], self.numbers(state), f"{formula}={target}", self.legacy)


def written(cards: Sequence[str], numbers: Sequence[int], formula: str, legacy: bool) -> str:
    """Return an answer as json; for the published code as that reads cards, not valid json."""
    row: dict[str, Any] = {"cards": list(cards), "number": list(numbers), "formula": formula}
    if not legacy:
        return json.dumps(row)
    named = ", ".join(f"'{card}'" for card in cards)
    return f'{{"cards": [{named}], "number": {list(numbers)}, "formula": "{formula}",}}'


def _ranks(state: State) -> list[int]:
    return [RANKS.index(card) + 1 for card in state["cards"]]


def counts(ranks: Sequence[int], faces: str) -> list[int]:
    """Return what ranks from 1 to 13 count where face cards are ten, or their ranks."""
    return [min(rank, TEN) for rank in ranks] if faces == "ten" else list(ranks)


def identity(ranks: Sequence[int]) -> str:
    """Return what hands of the same cards have in common, in whatever order."""
    return " ".join(RANKS[rank - 1] for rank in sorted(ranks))
