"""A picture cut into tiles: their number and pixels are those of LLaVA's code."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import LlavaOnevisionImageProcessor
from transformers.models.llava_onevision.modeling_llava_onevision import (
    image_size_to_num_patches,
)

from omni.encoders import ENCODERS
from omni.encoders.sizes import tile_grids, tile_shapes
from omni.entry import EntryError
from omni.media.limits import MediaError

SIDE = 32
VIT = {"model_type": "vit", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
       "intermediate_size": 48, "image_size": SIDE, "patch_size": 8}  # fmt: skip
ONEVISION = [(rows, columns) for rows in range(1, 7) for columns in range(1, 7)]
SIZES = [(90, 40), (33, 120), (64, 64), (7, 5), (200, 310), (32, 32), (400, 15)]


def attach(make_model, resize):
    encoder = {"kind": "transformers", "model_config": VIT, "resize": resize}
    model, _ = make_model(vision={"encoder": encoder, "projector": {"kind": "patch_concat_mlp"}})
    return model.config.modalities["vision"]["encoder"]


def shape_of(height, width, side, shapes):
    found = tile_grids(np.array([height]), np.array([width]), side, shapes)
    return tuple(int(n[0]) for n in found)


@pytest.mark.parametrize(
    ("size", "shape"),
    [((224, 224), (1, 1)), ((384, 384), (1, 1)), ((480, 640), (2, 2)), ((1080, 1920), (3, 5)),
     ((4000, 3000), (6, 5)), ((100, 4000), (1, 6))],
)  # fmt: skip
def test_published_tiles_of_onevision(size, shape):
    assert shape_of(*size, side=384, shapes=ONEVISION) == shape


@pytest.mark.parametrize(("side", "shapes"), [(384, tile_shapes(9)), (224, tile_shapes(4)),
                                              (384, ONEVISION)])  # fmt: skip
def test_tiles_are_as_many_as_the_references(side, shapes):
    sides = np.exp(np.random.default_rng(0).uniform(np.log(8), np.log(6000), (2, 10_000)))
    height, width = sides.astype(int)
    fit = np.maximum(height, width) <= 200 * np.minimum(height, width)
    height, width = height[fit], width[fit]
    rows, columns = tile_grids(height, width, side, shapes)
    pinpoints = [[r * side, c * side] for r, c in shapes]
    pairs = zip(height.tolist(), width.tolist(), strict=True)
    assert (1 + rows * columns).tolist() == [
        image_size_to_num_patches([h, w], pinpoints, side) for h, w in pairs
    ]


@pytest.mark.parametrize("most", [1, 4, 9])
def test_tiles_show_what_the_reference_shows(most, make_model):
    config = attach(make_model, {"by": "tiles", "most": most})
    assert config["resize"] == {"by": "tiles", "most": most}
    cls = ENCODERS["transformers"]
    reference = LlavaOnevisionImageProcessor(
        size={"height": SIDE, "width": SIDE}, image_mean=config["mean"], image_std=config["std"],
        image_grid_pinpoints=[[r * SIDE, c * SIDE] for r, c in tile_shapes(most)],
    )  # fmt: skip
    rng = np.random.default_rng(0)
    for wide, high in SIZES:
        picture = Image.fromarray(rng.integers(0, 255, (high, wide, 3), dtype=np.uint8))
        found = cls.preprocess(config, picture)["pixel_values"]
        [expected] = reference(images=picture, return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        facts = np.array([(high, wide)], dtype=[("height", np.uint32), ("width", np.uint32)])
        image, grids = cls.grids_of(config, facts)
        assert image.tolist() == [0] * len(found)
        assert grids.tolist() == [[4, 4]] * len(found)
    assert len(found) == 1 + most  # a strip fills all


def test_tiles_join_to_the_picture(make_model):
    config = attach(make_model, "tiles")
    assert config["resize"] == {"by": "tiles", "most": 9}
    ramp = np.linspace(0, 255, 3 * SIDE, dtype=np.uint8)
    picture = np.stack(
        np.broadcast_arrays(ramp[:, None], ramp[None, : 2 * SIDE], np.uint8(0)), axis=2
    )
    found = ENCODERS["transformers"].preprocess(config, Image.fromarray(picture))["pixel_values"]
    mean, std = (torch.tensor(config[n])[:, None, None] for n in ("mean", "std"))
    tiles = ((found[1:] * std + mean) * 255).view(3, 2, 3, SIDE, SIDE)
    joined = tiles.permute(0, 3, 1, 4, 2).reshape(3 * SIDE, 2 * SIDE, 3)
    torch.testing.assert_close(joined, torch.tensor(picture).float(), atol=1e-3, rtol=0)


def test_what_tiles_would_show_no_pixel_of_is_refused(make_model):
    config = attach(make_model, {"by": "tiles", "most": 1})
    with pytest.raises(MediaError, match=r"400x9 pixels, which tiles of 32 .* less than one pixel"):
        ENCODERS["transformers"].preprocess(config, Image.new("RGB", (400, 9)))


@pytest.mark.parametrize(
    ("resize", "reason"),
    [({"by": "tiles", "most": 0}, "most is 0, not 1 to 64 tiles"),
     ({"by": "tiles", "most": True}, "most is True"),
     ({"by": "tiles", "max": 4}, r"resize is .* or tiles, .*\{by: tiles, most: N\}"),
     ({"by": "timm"}, "resize is"), (["tiles"], "resize is"), (7, "resize is")],
)  # fmt: skip
def test_other_ways_are_refused(resize, reason, make_model):
    with pytest.raises(EntryError, match=reason):
        attach(make_model, resize)
