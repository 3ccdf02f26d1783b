"""A box of a picture is found in what the encoder is shown, where it was mapped to, and back."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BitImageProcessor,
    CLIPImageProcessor,
    ConvNextImageProcessor,
    SiglipImageProcessor,
)

from omni.encoders import encoder_class
from omni.encoders.resize import settings_of
from omni.media.limits import MediaError

SIDE = 96
SQUARE = {"kind": "transformers", "image_size": SIDE, "mean": [0.0] * 3, "std": [1.0] * 3}
QWEN2_VL = {"depth": 1, "embed_dim": 32, "num_heads": 2, "hidden_size": 8}


def timm(mode, share):
    return {"by": "timm", "input_size": [3, SIDE, SIDE], "interpolation": "bicubic",
            "crop_pct": share, "crop_mode": mode}  # fmt: skip


def open_clip(mode):
    return {"by": "open_clip", "size": SIDE, "resize_mode": mode, "interpolation": "bicubic"}


def transformers(processor):
    return {"by": "transformers", "processor": settings_of(processor)}


CROP = {"height": SIDE, "width": SIDE}
RESIZES = {
    "letterbox": "letterbox", "squash": "squash", "crop": "crop",
    "tiles": {"by": "tiles", "most": 9}, "one tile": {"by": "tiles", "most": 1},
    **{f"timm {mode} {share}": timm(mode, share)
       for mode in ("center", "squash", "border") for share in (1.0, 0.9)},
    **{f"open_clip {mode}": open_clip(mode) for mode in ("shortest", "longest", "squash")},
    "clip": transformers(CLIPImageProcessor(size={"shortest_edge": 110}, crop_size=CROP)),
    "siglip": transformers(SiglipImageProcessor(size=CROP)),
    "dinov2": transformers(BitImageProcessor(size={"shortest_edge": SIDE}, crop_size=CROP)),
    "convnext": transformers(ConvNextImageProcessor(size={"shortest_edge": SIDE}, crop_pct=0.8)),
}  # fmt: skip


BORDERED = ("letterbox", "timm border 1.0", "open_clip longest")


def config_of(name):
    if name == "qwen2_vl":
        described = encoder_class({"kind": name}).describe(None, model_config=QWEN2_VL)
    elif name == "naflex":
        described = encoder_class({"kind": name}).describe(None, model_config={"patch_size": 8})
    else:
        return SQUARE | {"resize": RESIZES[name]}
    return described | {"kind": name}


def canvas(config, name, item, shown):
    """Put what the encoder is shown together again: (height, width) of the first channel."""
    width, height = shown
    if "pixel_values" in item:
        tiles = item["pixel_values"]
        tiles = tiles[1:] if "tile" in name else tiles
        grid = tiles[:, 0].view(height // SIDE, width // SIDE, SIDE, SIDE)
        return grid.transpose(1, 2).reshape(height, width)
    patch = config["model_config"]["patch_size"]
    rows, columns = item["patch_grids"][0].tolist()
    cells = item["patches"]
    if name == "naflex":  # channels last
        first = cells.view(rows, columns, patch, patch, 3)[..., 0]
    else:
        first = cells.view(rows, columns, 3, patch, patch)[:, :, 0]
    return first.transpose(1, 2).reshape(height, width)


@pytest.mark.parametrize("size", [(300, 200), (170, 310), (150, 150), (61, 40), (333, 191)])
@pytest.mark.parametrize("name", [*RESIZES, "qwen2_vl", "naflex"])
def test_a_box_is_where_it_was_mapped_to(name, size):
    config = config_of(name)
    cls = encoder_class(config)
    width, height = size
    reach = 0.2 * min(size)  # in the middle, which no scheme cuts off
    box = np.array([width / 2 - reach, height / 2 - reach / 2, width / 2 + reach / 3,
                    height / 2 + reach]).round()  # fmt: skip
    left, top, right, bottom = box.astype(int)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[top:bottom, left:right] = 255
    if name == "letterbox":  # which pads with white
        picture = 255 - picture
    placement = cls.place(config, width, height)
    item = cls.preprocess(config, Image.fromarray(picture))
    seen = canvas(config, name, item, placement.shown)
    seen = -seen if name == "letterbox" else seen
    inside = seen > (seen.max() + seen.min()) / 2
    y, x = (inside.any(dim).nonzero()[:, 0] for dim in (1, 0))
    found = torch.stack([x[0], y[0], x[-1] + 1, y[-1] + 1]).numpy()
    mapped = placement.to_shown(box[None])
    assert np.abs(mapped[0] - found).max() <= 1
    back = placement.to_picture(mapped)
    assert np.abs(back - box).max() < 1e-9
    rounded = placement.to_picture(mapped.round())  # as a model says it
    assert (np.abs(rounded - box) <= np.tile(np.maximum(0.5 / np.array(placement.scale), 1), 2)
            ).all()  # fmt: skip


@pytest.mark.parametrize("size", [(207, 96), (96, 207), (1920, 1080), (780, 4)])
@pytest.mark.parametrize("name", RESIZES)
def test_a_picture_keeps_its_shape_or_is_refused(name, size):
    config = config_of(name)
    thin = max(size) > 100 * min(size)  # less than half a pixel, were it not rounded up
    squashed = "squash" in name or name == "siglip"
    preprocess = encoder_class(config).preprocess
    if (squashed and max(size) > 2 * min(size)) or (thin and name in BORDERED):
        with pytest.raises(MediaError, match=rf"{size[0]}x{size[1]} .* distorted [\d.]+:1 .*leave"):
            preprocess(config, Image.new("RGB", size))
    elif not thin:  # then what is cut off is nearly all of it
        assert preprocess(config, Image.new("RGB", size))["pixel_values"].shape[2:] == (SIDE, SIDE)


def test_what_an_unknown_author_does_is_refused():
    config = SQUARE | {"resize": {"by": "transformers", "processor": {
        "image_processor_type": "OddProcessor", "size": {"longest_edge": 9}}}}  # fmt: skip
    with pytest.raises(ValueError, match=r"OddProcessor .* \{'longest_edge': 9\}"):
        encoder_class(config).place(config, 30, 20)
