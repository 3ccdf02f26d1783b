"""An image -> square pixels: our own ways, and those of a tower's author, run by their library.

`config["resize"]` is the name of one of `WAYS`, or what the author stored: a dictionary whose
`by` names the library, and whose other entries are that library's own settings. `by: tiles` is
ours: several squares of one image, all of it first, and `most` of its parts.
"""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as tv

from ..media.limits import MediaError
from .sizes import Sizes, tile_grids, tile_shapes

LETTERBOX, AUTHOR, TILES = "letterbox", "author", "tiles"
MOST_TILES, LIMIT_TILES = 9, 64
BICUBIC = Image.Resampling.BICUBIC
WAYS: dict[str, Callable[[Image.Image, tuple[int, int]], Image.Image]] = {
    LETTERBOX: lambda image, size: ImageOps.pad(image, size, BICUBIC, color=(255, 255, 255)),
    "squash": lambda image, size: image.resize(size, BICUBIC),
    "crop": lambda image, size: ImageOps.fit(image, size, BICUBIC),
}
"""all of it on white; the sides to the square's; the middle of it"""


def own_way(asked: Any, who: str) -> str | dict[str, Any] | None:
    """Return what a config says of one of our own ways, None where it is the author's.

    Raises:
        ValueError: there is no such way.
    """
    if asked in (None, AUTHOR):
        return None
    if isinstance(asked, str) and asked in WAYS:
        return asked
    given = {"by": TILES} if asked == TILES else asked
    if isinstance(given, Mapping) and given.get("by") == TILES and given.keys() <= {"by", "most"}:
        most = given.get("most", MOST_TILES)
        if type(most) is not int or not 1 <= most <= LIMIT_TILES:
            raise ValueError(f"{who}: resize: most is {most!r}, not 1 to {LIMIT_TILES} tiles")
        return {"by": TILES, "most": most}
    raise ValueError(
        f"{who}: resize is {asked!r}; use {', '.join(WAYS)} or {AUTHOR}, or {TILES}, with a limit "
        f"{{by: {TILES}, most: N}}"
    )


def choose(asked: Any, stored: dict[str, Any] | None, who: str) -> str | dict[str, Any]:
    """Return what a config says of resizing: the author's way wherever there is one.

    Args:
        asked: a recipe's `resize`, one of ours or "author".
        stored: the author's way, None where the weights come without it.
        who: names the encoder in errors.

    Raises:
        ValueError: no such way, or the author's is asked for and not stored.
    """
    if own := own_way(asked, who):
        return own
    if asked and not stored:
        raise ValueError(
            f"{who}: resize is {AUTHOR}, but the weights come without their preprocessing; use "
            f"{', '.join(WAYS)}"
        )
    return stored or LETTERBOX


def to_pixels(config: dict[str, Any], image: Image.Image) -> torch.Tensor:
    """Resize and normalise an RGB image as an encoder's config says: squares (K, 3, S, S).

    Raises:
        MediaError: it is too thin to be cut into tiles.
    """
    resize = config.get("resize", LETTERBOX)
    if is_tiled(config):
        rows, _ = tiles_of(config, np.array([image.height]), np.array([image.width]))
        if not rows[0]:
            raise MediaError(
                f"{image.width}x{image.height} pixels, which tiles of {config['image_size']} "
                "would show less than one pixel thin; crop it, or leave it out"
            )
        resize = {**resize, "side": config["image_size"]}
    if not isinstance(resize, str):
        spec = {"mean": config["mean"], "std": config["std"], **resize}
        pixels = _library(json.dumps(spec))(image)
        return pixels if is_tiled(config) else pixels[None]
    side = config["image_size"]
    pixels = tv.pil_to_tensor(WAYS[resize](image, (side, side)))
    return tv.normalize(
        tv.to_dtype(pixels, torch.float32, scale=True), config["mean"], config["std"]
    )[None]


def is_tiled(config: dict[str, Any]) -> bool:
    """Tell whether an image becomes several squares."""
    resize = config.get("resize")
    return isinstance(resize, dict) and resize["by"] == TILES


def tiles_of(config: dict[str, Any], height: np.ndarray, width: np.ndarray) -> Sizes:
    """Return the rows and columns of the tiles of images, (n,) each, where a config has tiles."""
    shapes = tile_shapes(config["resize"]["most"])
    return tile_grids(height, width, config["image_size"], shapes)


def author_settings(folder: Path, who: str, instead: str = "") -> dict[str, Any]:
    """Return the settings of a folder's image processor, with its class.

    Args:
        folder: of weights, which has one.
        who: names the encoder in errors.
        instead: what else a user could do, for the error.

    Raises:
        ValueError: transformers does not know it.
    """
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(folder)
    except Exception as error:  # whatever a file may hold
        raise ValueError(
            f"{who}: the preprocessing that {folder} holds cannot be read "
            f"({' '.join(str(error).split())}); mend it{instead}"
        ) from error
    return settings_of(processor)


def settings_of(processor: Any) -> dict[str, Any]:
    """Return what `image_processor` makes an image processor of transformers from again."""
    return json.loads(processor.to_json_string()) | {
        "image_processor_type": type(processor).__name__
    }


@lru_cache
def image_processor(settings: str) -> Any:
    """Make the image processor of transformers from the JSON of `settings_of`."""
    import transformers

    found = json.loads(settings)
    return getattr(transformers, found["image_processor_type"]).from_dict(found)


def check_square(config: dict[str, Any], who: str) -> None:
    """Make sure that images of every shape become squares of the size that a config says.

    Raises:
        ValueError: they do not; the encoder's author wants another shape.
    """
    side = config["image_size"]
    for shape in ((2 * side, side), (side, 3 * side)):
        found = tuple(to_pixels(config, Image.new("RGB", shape)).shape[1:])
        if found != (3, side, side):
            raise ValueError(
                f"{who}: its author's preprocessing makes {found} of an image, not "
                f"{(3, side, side)}; use resize: {' or '.join(WAYS)}"
            )


@lru_cache
def _library(spec: str) -> Callable[[Image.Image], torch.Tensor]:
    settings = json.loads(spec)
    return _LIBRARIES[settings.pop("by")](settings)


def _timm(settings: dict[str, Any]) -> Callable[[Image.Image], torch.Tensor]:
    from timm.data.transforms_factory import create_transform

    return create_transform(**settings, is_training=False)  # type: ignore[return-value]


def _open_clip(settings: dict[str, Any]) -> Callable[[Image.Image], torch.Tensor]:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    return image_transform_v2(PreprocessCfg(**settings), is_train=False)  # type: ignore[return-value]


def _transformers(settings: dict[str, Any]) -> Callable[[Image.Image], torch.Tensor]:
    processor = image_processor(json.dumps(settings["processor"]))
    return lambda image: processor(images=image, return_tensors="pt")["pixel_values"][0]


def _tiles(settings: dict[str, Any]) -> Callable[[Image.Image], torch.Tensor]:
    """Cut as LLaVA-OneVision does: all of the image squashed, then its tiles row by row."""
    from transformers import LlavaOnevisionImageProcessor

    side, shapes = settings["side"], tile_shapes(settings["most"])
    processor = LlavaOnevisionImageProcessor(
        size={"height": side, "width": side}, image_mean=settings["mean"],
        image_std=settings["std"],
        image_grid_pinpoints=[[rows * side, columns * side] for rows, columns in shapes],
    )  # fmt: skip
    return lambda image: processor(images=image, return_tensors="pt")["pixel_values"][0]


_LIBRARIES = {
    "timm": _timm, "open_clip": _open_clip, "transformers": _transformers, TILES: _tiles
}  # fmt: skip
