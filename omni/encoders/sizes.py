"""Sizes of images that keep their shape, in pixels: arithmetic on arrays, one entry an image.

They are those of the image processors, to the last bit of a double: tests compare them.
"""

import numpy as np

from ..media.limits import MediaError

Sizes = tuple[np.ndarray, np.ndarray]
"""heights and widths, (n,) whole numbers each"""

MOST_STRETCH = 2.0
_CHUNK = 8_192
_SCALES, _PRECISION = (1e-6, 100.0), 1e-5


def smart_sizes(height: np.ndarray, width: np.ndarray, factor: int, least: int, most: int) -> Sizes:
    """Round sides to multiples of `factor`, the area between `least` and `most` pixels.

    Qwen2-VL's rule (arXiv 2409.12191, section 2.1), ties to even numbers included.
    """
    sides = np.stack([height, width]).astype(np.float64)
    area = sides.prod(axis=0)
    found = np.rint(sides / factor) * factor
    rounded = found.prod(axis=0)
    shrink = np.sqrt(area / most)
    smaller = np.maximum(np.floor(sides / shrink / factor) * factor, factor)
    larger = np.ceil(sides * np.sqrt(least / area) / factor) * factor
    found = np.where(rounded > most, smaller, np.where(rounded < least, larger, found))
    return found[0].astype(np.int64), found[1].astype(np.int64)


def budget_sizes(height: np.ndarray, width: np.ndarray, patch: int, most: int) -> Sizes:
    """Scale to the most patches that are no more than `most`; sides are rounded up to patches.

    SigLIP2's rule for NaFlex (arXiv 2502.14786, section 2.4): its search for the scale, halving.
    """
    found = np.empty((2, len(height)), np.int64)
    for start in range(0, len(height), _CHUNK):  # what is worked on stays in the cache
        span = slice(start, start + _CHUNK)
        sides = np.stack([height[span], width[span]]).astype(np.float64)
        low, high = (np.full(sides.shape[1], scale) for scale in _SCALES)
        for _ in range(int(np.ceil(np.log2((_SCALES[1] - _SCALES[0]) / _PRECISION)))):
            middle = (low + high) / 2
            rows, columns = np.ceil(sides * middle / patch)
            fits = rows * columns <= most
            low, high = np.where(fits, middle, low), np.where(fits, high, middle)
        found[:, span] = np.ceil(sides * low / patch) * patch
    return found[0], found[1]


def tile_shapes(most: int) -> list[tuple[int, int]]:
    """Return all (rows, columns) of at most so many tiles."""
    sides = range(1, most + 1)
    return [(rows, columns) for rows in sides for columns in sides if rows * columns <= most]


def tile_grids(
    height: np.ndarray, width: np.ndarray, side: int, shapes: list[tuple[int, int]]
) -> Sizes:
    """Choose rows and columns of tiles: the most pixels of the image, then the least around it.

    LLaVA-NeXT's rule, an image being scaled to fit into the tiles as it is.

    Returns:
        rows and columns, (n,) each; 0 where an image is so thin that no pixel of it is left.
    """
    found = np.zeros((2, len(height)), np.int64)
    for start in range(0, len(height), _CHUNK):
        span = slice(start, start + _CHUNK)
        high, wide = height[span].astype(np.float64), width[span].astype(np.float64)
        area, best = high * wide, found[:, span]
        shown, wasted = np.zeros(len(area)), np.full(len(area), np.inf)
        for rows, columns in shapes:
            scale = np.minimum(columns * side / wide, rows * side / high)
            pixels = np.minimum(np.trunc(wide * scale) * np.trunc(high * scale), area)
            around = rows * columns * side**2 - pixels
            better = (pixels > shown) | ((pixels == shown) & (around < wasted) & (pixels > 0))
            best[:, better] = [[rows], [columns]]
            shown, wasted = np.where(better, pixels, shown), np.where(better, around, wasted)
    return found[0], found[1]


def stretch(size: tuple[float, float], used: tuple[float, float]) -> float:
    """Tell how many times as wide for its height, or as high for its width, an image becomes."""
    ratio = (used[1] * size[0]) / (used[0] * size[1])
    return max(ratio, 1 / ratio)


def check_stretch(
    size: tuple[int, int], used: tuple[float, float], instead: str = "crop it"
) -> None:
    """Make sure that an image keeps its shape, more or less; sizes are (height, width).

    Raises:
        MediaError: it would be distorted beyond `MOST_STRETCH`; `instead` says what could be done.
    """
    if (found := stretch(size, used)) > MOST_STRETCH:
        raise MediaError(
            f"{size[1]}x{size[0]} pixels would be shown as {used[1]:.0f}x{used[0]:.0f}, distorted "
            f"{found:.1f}:1 (limit {MOST_STRETCH:g}:1); {instead}, or leave it out"
        )
