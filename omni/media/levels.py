"""A picture of any mode and depth -> 8-bit RGB at the right levels."""

from typing import Any

import numpy as np
from PIL import Image, ImageCms

_BITS, _WHITE_IS_ZERO = 258, 262  # tags of a TIFF
_RANGES = ((340, 341), (280, 281))  # tags that tell the least and the greatest sample
_WORD = 65535
_SCALED = {"L;2": 85, "L;4": 17}  # what Pillow multiplies levels by, but not the transparent one


def as_rgb(img: Image.Image) -> Image.Image:
    """Convert to RGB; what is transparent becomes white.

    16 bits are a whole number of levels from black to white, and so are 32-bit integers that
    need more than 8 of them, because that is how Pillow stores 16 bits.

    Raises:
        ValueError: numbers of which nothing says which is white.
    """
    _mend_transparency(img)
    if img.mode.startswith("I") or img.mode == "F":
        return _grey(img).convert("RGB")
    if img.mode == "LAB":
        return _from_lab(img)
    if img.mode in ("RGBa", "La"):  # colours that alpha has been multiplied into
        img = img.convert("RGBA" if img.mode == "RGBa" else "LA")
    if img.mode in ("RGBA", "LA", "PA") or "transparency" in img.info:
        img = img.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", img.size, "white"), img).convert("RGB")
    return img.convert("RGB")


def _mend_transparency(img: Image.Image) -> None:
    """Bring the level that a PNG calls transparent to 8 bits, as Pillow does with all others."""
    tiles, key = getattr(img, "tile", None), img.info.get("transparency")
    if not tiles or key is None or isinstance(key, bytes):
        return
    form = tiles[0][3]
    if isinstance(key, tuple) and form == "RGB;16B":
        img.info["transparency"] = tuple(level >> 8 for level in key)
    elif form in _SCALED:
        img.info["transparency"] = key * _SCALED[form]


def _grey(img: Image.Image) -> Image.Image:
    values = np.asarray(img)  # (H, W) 16 or 32 bits
    low, high = _range(img, values)
    levels = (values.astype(np.float32) - low) * np.float32(255 / (high - low))
    levels = np.rint(levels).clip(0, 255).astype(np.uint8)
    tags: Any = getattr(img, "tag_v2", {})
    if img.mode.startswith("I;16") and tags.get(_WHITE_IS_ZERO) == 0:
        levels = 255 - levels
    if (clear := img.info.get("transparency")) is not None:
        levels[values == clear] = 255
    return Image.fromarray(levels)


def _range(img: Image.Image, values: np.ndarray) -> tuple[float, float]:
    """Return which numbers are black and white."""
    tags: Any = getattr(img, "tag_v2", {})
    bits = tags.get(_BITS, (0,))[0]
    if img.mode.startswith("I;16"):
        return 0, (1 << bits) - 1 if 8 < bits < 16 else _WORD
    for least, greatest in _RANGES:
        low, high = (_number(tags.get(tag)) for tag in (least, greatest))
        if low is not None and high is not None and low < high and np.isfinite(values).all():
            return low, high
    if img.mode == "I" and (img.format == "PPM" or not values.any()):  # Pillow scales it to 16 bits
        return 0, _WORD
    least, greatest = (values.min(), values.max()) if values.size else (0, 0)
    if img.mode == "I" and bits != 16 and least >= 0 and 255 < greatest <= _WORD:
        return 0, _WORD
    kind = "floating-point" if img.mode == "F" else "32-bit"
    raise ValueError(
        f"its {kind} numbers, {least:g} to {greatest:g}, do not say which of them is white; save "
        "it with 8 or 16 bits"
    )


def _number(value: Any) -> float | None:
    """Return what a tag says, which may be one number or one for each channel."""
    if isinstance(value, tuple):
        value = value[0] if value else None
    return None if value is None else float(value)


def _from_lab(img: Image.Image) -> Image.Image:
    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(img, lab, rgb, outputMode="RGB")
    if converted is None:
        raise ValueError("its CIELAB colours cannot be converted")
    return converted
