"""When two pictures are the same picture, saved twice."""

from typing import Any, NamedTuple

import numpy as np

SIDE, LOW = 32, 8  # the hash: the lowest LOW x LOW frequencies of SIDE x SIDE grey values
DISTANCE = 8  # bits of 63 that may differ
LIKENESS = 0.95  # correlation of the two pictures at LOW x LOW pixels, colours included
FLAT = 2.0  # grey levels; a picture that varies less has no structure to compare
_STEP = np.arange(SIDE)
_COSINES = np.cos(np.pi * (2 * _STEP + 1) * _STEP[:LOW, None] / (2 * SIDE))


class Fingerprint(NamedTuple):
    """`code`: 63 bits, each a low frequency of the DCT above or below their median (pHash).

    `look`: (3·LOW², ) the picture at LOW x LOW pixels, mean removed, of length 1. Recompressed,
    resized or slightly recoloured copies keep both; crops, mirrored and redrawn ones do not.
    """

    code: np.uint64
    look: np.ndarray


def fingerprint(picture: Any) -> Fingerprint | None:
    """Of an RGB picture of PIL; None if it is nearly of one colour."""
    from PIL.Image import Resampling

    grey = np.asarray(picture.convert("L").resize((SIDE, SIDE), Resampling.LANCZOS), dtype=float)
    if grey.std() < FLAT:
        return None
    low = (_COSINES @ grey @ _COSINES.T).ravel()[1:]  # without the mean brightness
    bits = low > np.median(low)
    look = np.asarray(picture.resize((LOW, LOW), Resampling.BOX), dtype=np.float32).ravel()
    look = look - look.mean()
    return Fingerprint(
        np.packbits(bits, bitorder="little").view(np.uint64)[0], look / np.linalg.norm(look)
    )


class Gallery:
    """Pictures to be recognised."""

    def __init__(self, prints: list[Fingerprint]) -> None:
        self.codes = np.array([one.code for one in prints], dtype=np.uint64)
        self.looks = np.array([one.look for one in prints])

    def near(self, one: Fingerprint) -> list[tuple[int, int, float]]:
        """(number, differing bits, likeness) of each picture that `one` is a copy of."""
        bits = np.bitwise_count(self.codes ^ one.code)
        found = []
        for number in np.flatnonzero(bits <= DISTANCE):
            likeness = float(self.looks[number] @ one.look)
            if likeness >= LIKENESS:
                found.append((int(number), int(bits[number]), likeness))
        return found
