"""An image -> square pixels: our own ways, and those of a tower's author, run by their library.

`config["resize"]` is the name of one of `WAYS`, or what the author stored: a dictionary whose
`by` names the library, and whose other entries are that library's own settings.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as tv

LETTERBOX, AUTHOR = "letterbox", "author"
BICUBIC = Image.Resampling.BICUBIC
WAYS: dict[str, Callable[[Image.Image, tuple[int, int]], Image.Image]] = {
    LETTERBOX: lambda image, size: ImageOps.pad(image, size, BICUBIC, color=(255, 255, 255)),
    "squash": lambda image, size: image.resize(size, BICUBIC),
    "crop": lambda image, size: ImageOps.fit(image, size, BICUBIC),
}
"""all of it on white; the sides to the square's; the middle of it"""


def choose(asked: str | None, stored: dict[str, Any] | None, who: str) -> str | dict[str, Any]:
    """Return what a config says of resizing: the author's way wherever there is one.

    Args:
        asked: a recipe's `resize`, one of `WAYS` or "author".
        stored: the author's way, None where the weights come without it.
        who: names the encoder in errors.

    Raises:
        ValueError: no such way, or the author's is asked for and not stored.
    """
    if asked in WAYS:
        return asked
    if asked not in (None, AUTHOR):
        raise ValueError(f"{who}: resize is {asked!r}; use {', '.join(WAYS)} or {AUTHOR}")
    if asked and not stored:
        raise ValueError(
            f"{who}: resize is {AUTHOR}, but the weights come without their preprocessing; use "
            f"{', '.join(WAYS)}"
        )
    return stored or LETTERBOX


def to_pixels(config: dict[str, Any], image: Image.Image) -> torch.Tensor:
    """Resize and normalise an RGB image as an encoder's config says: (3, S, S)."""
    resize = config.get("resize", LETTERBOX)
    if not isinstance(resize, str):
        spec = {"mean": config["mean"], "std": config["std"], **resize}
        return _library(json.dumps(spec))(image)
    side = config["image_size"]
    pixels = tv.pil_to_tensor(WAYS[resize](image, (side, side)))
    return tv.normalize(
        tv.to_dtype(pixels, torch.float32, scale=True), config["mean"], config["std"]
    )


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
        found = tuple(to_pixels(config, Image.new("RGB", shape)).shape)
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


_LIBRARIES = {"timm": _timm, "open_clip": _open_clip, "transformers": _transformers}
