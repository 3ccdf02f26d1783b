"""Cards read aloud by the voices of the source `speech`."""

from functools import lru_cache
from typing import Any

from ...sources.base import Build
from ...sources.demo.readers import AUTO, Readers, Reading, cast
from ...sources.demo.voices import find_voices

NAMES = ("ace", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
         "jack", "queen", "king")  # fmt: skip
WORDS = dict(zip(("A", *map(str, range(2, 11)), "J", "Q", "K"), NAMES, strict=True))
RENDITIONS = 60  # of a hand, over the voices, pitches and speeds


def reading(state: dict[str, Any], voices: str, split: str) -> Reading:
    """Return the cards of a state as FLAC, read by one of the voices, which the seed chooses.

    Voices are held out as the source `speech` does; only `split` heldout hears them.

    Raises:
        SourceUnavailable: the voices cannot be had here.
    """
    text = ", ".join(WORDS[card] for card in state["cards"])
    part = "heldout" if split == "heldout" else "train"
    return _read(text, voices, part, int(state["seed"]) % RENDITIONS)


@lru_cache(maxsize=64)
def _read(text: str, voices: str, split: str, number: int) -> Reading:
    return readers_of(voices).read(text, split, number)


@lru_cache(maxsize=4)
def readers_of(voices: str) -> Readers:
    """Return who reads in each split."""
    build = Build(say=lambda _: None)
    return cast(find_voices(voices, build.say), AUTO, 0.0, build)
