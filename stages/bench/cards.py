"""A reduced game of cards, to be learnt in minutes on a CPU: four of 1 to 6 that make 12."""

from typing import Any

from .reinforced import Permuted

WORLD: dict[str, Any] = {"kind": "generalpoints", "answer": "formula", "cards": 4, "low": 1,
                         "high": 6, "target": 12, "heldout": 0.25}  # fmt: skip
TRAIN, HELDOUT = WORLD | {"split": "train"}, WORLD | {"split": "heldout"}
SHIFTS = {
    "another target": HELDOUT | {"target": 10},
    "other wordings": HELDOUT | {"wordings": 12},
}
"""another rule, another look: no card of the game is a face card, and none is drawn"""

permuted = Permuted(TRAIN)
