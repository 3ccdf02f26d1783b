"""Worlds of a few letters, pictures and noises, for benches of rollouts; a model learns nothing."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_shards.bench.data import picture, sound
from data_shards.environments import Verdict
from data_shards.environments.base import draws
from omni.processing.messages import Message, audio, image, user

LETTERS = "aeiou"


class Letters:
    """Pays for a letter in the answer, which is asked for beside what `media` are shown.

    Args:
        media: of a prompt: image, audio, both or neither; "any": by its seed.
        words: tokens, about, that a prompt has beside.
    """

    name = "letters"

    def __init__(self, media: Sequence[str] | str = (), words: int = 4):
        self.media, self.words = media, words

    def state(self, seed: int) -> dict[str, Any]:
        any_of = [(), ("image",), ("audio",), ("image", "audio")]
        media = any_of[seed % 4] if self.media == "any" else self.media
        return {"seed": seed, "letter": LETTERS[seed % len(LETTERS)], "media": [*media]}

    def prompt(self, state: dict[str, Any]) -> tuple[list[Message], dict[str, bytes]]:
        rng = np.random.default_rng(state["seed"])
        files: dict[str, bytes] = {}
        if "image" in state["media"]:
            files["img0.jpg"] = picture(rng)
        if "audio" in state["media"]:
            files["aud0.wav"] = sound(rng, 0.2)
        shown = [image(name) if name.startswith("img") else audio(name) for name in files]
        letters = rng.integers(97, 123, self.words, np.uint8).tobytes().decode()
        return [user(*shown, f"{letters} {state['letter']}?")], files

    def verify(self, state: dict[str, Any], answer: str) -> Verdict:
        found = answer.count(state["letter"])
        return Verdict(float(found), found > 3, False, f"{found} of {state['letter']}, again")

    def solution(self, state: dict[str, Any]) -> str:
        return state["letter"] * 4


class Repeat:
    """A letter that is to be repeated; how often does not matter.

    Args:
        most: letters of a solution, which has 1 to so many.
    """

    name = "repeat"

    def __init__(self, most: int = 8):
        self.most = most

    def state(self, seed: int) -> dict[str, Any]:
        return {"seed": seed, "count": int(draws(self.name, seed).integers(1, self.most + 1))}

    def prompt(self, state: dict[str, Any]) -> tuple[list[Message], dict[str, bytes]]:
        return [user("Repeat the letter a.")], {}

    def verify(self, state: dict[str, Any], answer: str) -> Verdict:
        right = set(answer) == {"a"}
        return Verdict(float(right), right, True, "Right." if right else "That is not all a.")

    def solution(self, state: dict[str, Any]) -> str:
        return "a" * state["count"]
