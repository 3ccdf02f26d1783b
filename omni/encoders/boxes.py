"""Where a picture lies in what an encoder is shown: boxes there, and back to the picture."""

import math
from typing import Any, NamedTuple

import numpy as np

from .resize import LETTERBOX, TILES, is_tiled, tiles_of
from .sizes import check_stretch


class Placement(NamedTuple):
    """The picture's pixel (x, y) is shown at (x * scale[0] + offset[0], y * scale[1] + offset[1]).

    What is cut off lies outside `shown`.
    """

    shown: tuple[int, int]
    """(width, height) of what the encoder sees; of all its tiles together"""
    scale: tuple[float, float]
    offset: tuple[float, float]

    @classmethod
    def of(
        cls, size: tuple[int, int], used: tuple[float, float], shown: tuple[int, int],
        offset: tuple[float, float] = (0, 0),
    ) -> "Placement":  # fmt: skip
        """Place a picture of a (width, height) that is resized to `used`."""
        return cls(shown, (used[0] / size[0], used[1] / size[1]), offset)

    def to_shown(self, boxes: np.ndarray) -> np.ndarray:
        """Map boxes of the picture, (n, 4) pixels: left, top, right, bottom."""
        return boxes * np.tile(self.scale, 2) + np.tile(self.offset, 2)

    def to_picture(self, boxes: np.ndarray) -> np.ndarray:
        """Map boxes (n, 4) of what the encoder is shown back to the picture."""
        return (boxes - np.tile(self.offset, 2)) / np.tile(self.scale, 2)


def place(config: dict[str, Any], width: int, height: int) -> Placement:
    """Tell where a picture lies in the square, or in the tiles, that a config makes of it.

    Raises:
        ValueError: it is the author's way, and one that is not known here.
    """
    side, resize = config["image_size"], config.get("resize", LETTERBOX)
    way, size = resize if isinstance(resize, str) else resize["by"], (width, height)
    square = (side, side)
    if way == TILES:
        [rows], [columns] = tiles_of(config, np.array([height]), np.array([width]))
        shown = int(columns) * side, int(rows) * side
        used = _fitted(size, shown, math.ceil)
        return Placement.of(size, used, shown, _middle(shown, used, math.floor))
    if way == LETTERBOX:
        used = _fitted(size, square, round)
        return Placement.of(size, used, square, _middle(square, used, round))
    if way == "squash":
        return Placement.of(size, square, square)
    if way == "crop":
        used = (width * side / min(size), height * side / min(size))
        return Placement.of(size, used, square, _middle(square, used, float))
    used = _AUTHORS[way](resize, size, side)  # type: ignore[arg-type]
    whole = math.ceil if way == "transformers" else _torchvision
    return Placement.of(size, used, square, _middle(square, used, whole))


def check_shape(config: dict[str, Any], width: int, height: int) -> None:
    """Make sure that a picture keeps its shape, more or less, in the square made of it.

    Tiles keep it. So, as far as is known, do ways of authors that cannot be placed.

    Raises:
        MediaError: it would be distorted beyond `sizes.MOST_STRETCH`, or be thinner than a pixel;
            says what to choose.
    """
    if is_tiled(config):
        return
    try:
        across, down = place(config, width, height).scale
    except ValueError:
        return
    bordered = config.get("resize", LETTERBOX) == LETTERBOX
    check_stretch(
        (height, width), (max(1.0, height * down), max(1.0, width * across)),
        "crop it" if bordered else f"attach the encoder with resize: {TILES} or {LETTERBOX}",
    )  # fmt: skip


def _fitted(size: tuple[int, int], into: tuple[int, int], whole: Any) -> tuple[int, int]:
    """Return the largest size of the same shape that fits."""
    scale = min(into[0] / size[0], into[1] / size[1])
    return min(whole(size[0] * scale), into[0]), min(whole(size[1] * scale), into[1])


def _middle(shown: tuple[int, int], used: Any, whole: Any) -> tuple[float, float]:
    """Return where what is cut or padded at both ends begins."""
    return whole((shown[0] - used[0]) / 2), whole((shown[1] - used[1]) / 2)


def _torchvision(gap: float) -> int:
    """Round what is padded down, and of what is cut off halves to even numbers."""
    return math.floor(gap) if gap > 0 else round(gap)


def _shortest(size: tuple[int, int], side: int) -> tuple[int, int]:
    return tuple(int(side * edge / min(size)) for edge in size)  # type: ignore[return-value]


def _longest(size: tuple[int, int], side: int) -> tuple[int, int]:
    return _fitted(size, (side, side), round)


def _timm(resize: dict[str, Any], size: tuple[int, int], side: int) -> tuple[int, int]:
    scaled = math.floor(side / resize["crop_pct"])
    ways = {"squash": lambda *_: (scaled, scaled), "border": _longest}
    return ways.get(resize["crop_mode"], _shortest)(size, scaled)


def _open_clip(resize: dict[str, Any], size: tuple[int, int], side: int) -> tuple[int, int]:
    ways = {"squash": lambda *_: (side, side), "longest": _longest}
    return ways.get(resize["resize_mode"], _shortest)(size, side)


def _transformers(resize: dict[str, Any], size: tuple[int, int], side: int) -> tuple[int, int]:
    settings = resize["processor"]
    wanted = {k: v for k, v in (settings.get("size") or {}).items() if v}
    cut = (settings.get("crop_size") or {}) if settings.get("do_center_crop") else {}
    if wanted.keys() == {"height", "width"}:
        return wanted["width"], wanted["height"]
    if wanted.keys() == {"shortest_edge"}:
        edge = wanted["shortest_edge"]
        if share := settings.get("crop_pct"):  # ConvNeXT: small ones are cut, large ones squashed
            return _shortest(size, int(edge / share)) if edge < 384 else (edge, edge)
        if cut:
            return _shortest(size, edge)
    raise ValueError(
        f"where the {settings['image_processor_type']} of the encoder's author puts a picture is "
        f"not known (its size is {wanted}); attach the encoder with another resize to map boxes"
    )


_AUTHORS = {"timm": _timm, "open_clip": _open_clip, "transformers": _transformers}
