"""Hard prompts (GuardReasoner, arXiv 2501.18492): those answered rightly and wrongly, as pairs."""

from collections.abc import Sequence
from itertools import product
from math import sqrt
from typing import NamedTuple

import numpy as np

from data_shards.sources.base import digest


class Judged(NamedTuple):
    """The own answers to one prompt, right and wrong."""

    right: Sequence[str]
    wrong: Sequence[str]

    @property
    def mixed(self) -> bool:
        """Whether a pair can be made."""
        return bool(self.right and self.wrong)


def choose(judged: Judged, choice: str, seed: int, name: str) -> tuple[str, str]:
    """Return a right answer and a wrong one of a prompt whose verdicts are mixed.

    Args:
        judged: its answers.
        choice: `random`; `longest`, the longest of both, as the published code does, in which a
            model can learn length for rightness; `length-matched`, the two that differ least in
            characters. Of equal ones the first.
        seed: of what is drawn.
        name: of the prompt; what is drawn follows from both.
    """
    if choice == "longest":
        return max(judged.right, key=len), max(judged.wrong, key=len)
    if choice == "length-matched":
        return min(product(*judged), key=lambda pair: abs(len(pair[0]) - len(pair[1])))
    drawn = digest(seed, name, "pair") % (len(judged.right) * len(judged.wrong))
    right, wrong = divmod(drawn, len(judged.wrong))
    return judged.right[right], judged.wrong[wrong]


def correlation(prompts: Sequence[Judged]) -> float | None:
    """Return how length goes with rightness, from -1 to 1; None where either never differs.

    Pearson's, of characters and verdicts, over all answers of the prompts.
    """
    lengths = [len(text) for judged in prompts for text in (*judged.right, *judged.wrong)]
    right = [k < len(judged.right) for judged in prompts
             for k in range(len(judged.right) + len(judged.wrong))]  # fmt: skip
    if not lengths or min(lengths) == max(lengths) or min(right) == max(right):
        return None
    a, b = (np.asarray(x, float) - np.mean(x) for x in (lengths, right))
    return float(a @ b / sqrt((a @ a) * (b @ b)))
