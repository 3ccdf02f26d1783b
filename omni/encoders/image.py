"""What encoders of images of one size share: square pixels (N, 3, S, S) -> patch features."""

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from ..media.decode import load_image
from .boxes import Placement, check_shape, place
from .ragged import Ragged
from .resize import LETTERBOX, is_tiled, tiles_of, to_pixels

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


class ImageEncoder(nn.Module):
    """Square input of one size, made as `resize` says; see `omni.encoders.resize`.

    A subclass says what `features` of pixels are.
    """

    media = "image"
    inputs = ("pixel_values",)
    host_inputs = ()

    def __init__(
        self, image_size: int, mean: list[float], std: list[float], grid: list[int],
        resize: str | dict[str, Any] = LETTERBOX,
    ):  # fmt: skip
        super().__init__()
        self.image_size, self.mean, self.std, self.grid = image_size, mean, std, grid
        self.resize = resize

    @staticmethod
    def preprocess(config: dict[str, Any], ref: Any) -> dict[str, torch.Tensor]:
        """Decode one image to `{"pixel_values": (K, 3, S, S)}`, K > 1 where it is cut into tiles.

        Raises:
            MediaError: no readable image, or one that would be distorted or not be seen.
        """
        image = load_image(ref)
        check_shape(config, *image.size)
        return {"pixel_values": to_pixels(config, image)}

    @staticmethod
    def collate(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Stack the preprocessed images of a batch."""
        return {"pixel_values": torch.cat([item["pixel_values"] for item in items])}

    @staticmethod
    def grids(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> list[tuple[int, ...]]:
        """Tell the feature grid (rows, columns) of each square."""
        return [tuple(config["grid"])] * len(tensors["pixel_values"])

    @staticmethod
    def grids_of(config: dict[str, Any], facts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tell the grids of images from their facts; see `omni.encoders`."""
        image = np.arange(len(facts))
        if is_tiled(config):
            rows, columns = tiles_of(config, facts["height"], facts["width"])
            image = np.repeat(image, 1 + rows * columns)
        return image, np.tile(np.array([config["grid"]]), (len(image), 1))

    @staticmethod
    def split(config: dict[str, Any], pixel_values: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
        """Undo `collate`: the inputs of each square alone."""
        return [(pixels,) for pixels in pixel_values.split(1)]

    @staticmethod
    def place(config: dict[str, Any], width: int, height: int) -> Placement:
        """Tell where a picture lies in what is shown of it; see `omni.encoders.boxes.place`."""
        return place(config, width, height)

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Encode pixels (N, 3, S, S) to patches (N, H, W, D)."""
        raise NotImplementedError

    def forward(self, pixel_values: torch.Tensor) -> Ragged:
        return Ragged.of(self.features(pixel_values))


def to_grid(tokens: torch.Tensor, prefix: int) -> torch.Tensor:
    """Drop class and register tokens, which come first: (N, P + S * S, D) -> (N, S, S, D).

    Raises:
        ValueError: what is left is no square of patches.
    """
    count = tokens.shape[1] - prefix
    side = math.isqrt(max(count, 0))
    if side * side != count or count < 2:  # one token is a class token, whatever it is called
        raise ValueError(
            f"its features are {tokens.shape[1]} tokens, {prefix} of which stand for no patch: "
            "the rest is no square of patches"
        )
    return tokens[:, prefix:].unflatten(1, (side, side))


def square(size: Any, what: str) -> int:
    """Return the side of a square image, given as a number or as (height, width).

    Raises:
        ValueError: it is not square, or there is none; `what` names it.
    """
    if size is None:
        raise ValueError(f"{what}: none is stored with the weights; give one in pixels")
    sides = set(size) if isinstance(size, list | tuple) else {size}
    if len(sides) != 1 or not isinstance(side := sides.pop(), int) or side < 1:
        raise ValueError(f"{what} is {size!r}: only square images, of a whole number of pixels")
    return side
