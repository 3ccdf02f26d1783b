"""Encoders at native resolution: sizes, pixels and features are those of the authors' code."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    Qwen2VLImageProcessor,
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
    Siglip2VisionModel,
)
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLConfig
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize
from transformers.models.qwen2_vl.modeling_qwen2_vl import (
    Qwen2VisionTransformerPretrainedModel,
    Qwen2VLForConditionalGeneration,
)
from transformers.models.siglip2.image_processing_siglip2 import (
    get_image_size_for_max_num_patches,
)

from omni.encoders import ENCODERS
from omni.encoders.sizes import budget_sizes, smart_sizes
from omni.entry import EntryError
from omni.media.limits import MediaError

SIZES = [(90, 40), (33, 120), (64, 64), (7, 5), (201, 310)]
QWEN2_VL = {"depth": 2, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2, "hidden_size": 24,
            "hidden_act": "quick_gelu"}  # fmt: skip
NAFLEX = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
          "intermediate_size": 48, "patch_size": 8, "num_patches": 16}  # fmt: skip
SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
         "intermediate_size": 32, "vocab_size": 260}  # fmt: skip


def sharp(tower):
    """Give a tower weights so large that attention looks somewhere, and positions matter."""
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.normal_(std=0.15)
    return tower.eval()


def write_qwen2_vl(folder, **options):
    torch.manual_seed(0)
    config = Qwen2VLConfig(
        vision_config=QWEN2_VL, text_config={**SMALL, "num_key_value_heads": 2,
                                             "max_position_embeddings": 64}
    )  # fmt: skip
    model = Qwen2VLForConditionalGeneration(config)
    tower = sharp(model.model.visual)
    model.save_pretrained(folder, **options)
    Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=28 * 28 * 40).save_pretrained(folder)
    return tower


def write_naflex(folder, **options):
    torch.manual_seed(0)
    text = {**SMALL, "max_position_embeddings": 16}
    model = Siglip2Model(Siglip2Config(vision_config=NAFLEX, text_config=text))
    tower = sharp(model.vision_model)
    model.save_pretrained(folder, **options)
    Siglip2ImageProcessor(patch_size=8, max_num_patches=60).save_pretrained(folder)
    return tower


def qwen2_vl_reference(tower, processor, pictures):
    """Return patches in rows, each with its copies in time, grids, and features."""
    found = processor(images=pictures, return_tensors="pt")
    grids = found["image_grid_thw"][:, 1:]
    with torch.no_grad():
        features = tower(found["pixel_values"], found["image_grid_thw"]).last_hidden_state

    def in_rows(values):
        cells = grids.prod(1).tolist()
        return torch.cat([
            part.view(h // 2, w // 2, 2, 2, -1).transpose(1, 2).reshape(h * w, -1)
            for part, (h, w) in zip(values.split(cells), grids.tolist(), strict=True)
        ])  # fmt: skip

    pixels = in_rows(found["pixel_values"]).unflatten(1, (3, 2, -1))
    assert torch.equal(pixels[:, :, 0], pixels[:, :, 1])
    return pixels[:, :, 0].flatten(1), grids, in_rows(features)


def naflex_reference(tower, processor, pictures):
    found = processor(images=pictures, return_tensors="pt")
    seen = found["pixel_attention_mask"].bool()
    with torch.no_grad():
        features = tower(**found).last_hidden_state
    return found["pixel_values"][seen], found["spatial_shapes"], features[seen]


KINDS = {
    "qwen2_vl": SimpleNamespace(
        write=write_qwen2_vl, reference=qwen2_vl_reference, most={"max_pixels": 28 * 28 * 12},
        config=QWEN2_VL, processor="longest_edge", prefix="model.visual.", layer="blocks.1.",
        tower=Qwen2VisionTransformerPretrainedModel, unused="merger.",
    ),
    "naflex": SimpleNamespace(
        write=write_naflex, reference=naflex_reference, most={"max_patches": 30},
        config=NAFLEX, processor="max_num_patches", prefix="vision_model.",
        layer="encoder.layers.1.", tower=Siglip2VisionModel, unused="head.",
    ),
}  # fmt: skip


@pytest.fixture(params=KINDS)
def kind(request):
    return SimpleNamespace(name=request.param, **vars(KINDS[request.param]))


def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)) for w, h in SIZES]


def attach(make_model, kind, folder=None, **options):
    spec = {"kind": kind.name, **options}
    spec |= {"weights": str(folder)} if folder else {"model_config": kind.config}
    return make_model(vision={"encoder": spec, "projector": {"kind": "patch_concat_mlp"}})


def encoder_of(model):
    config = model.config.modalities["vision"]["encoder"]
    return model.encoders["vision"], config, ENCODERS[config["kind"]]


def sides(count, seed=0):
    """Draw sizes of pictures, from single pixels to posters and strips."""
    return np.exp(np.random.default_rng(seed).uniform(0, np.log(6000), (2, count))).astype(int)


# sizes


@pytest.mark.parametrize(
    ("size", "expected"),
    [((224, 224), (224, 224)), ((480, 640), (476, 644)), ((1080, 1920), (728, 1316)),
     ((4000, 3000), (1148, 840)), ((70, 70), (56, 56)), ((10, 1999), (28, 812)),
     ((13, 500), (28, 364)), ((28, 5600), (28, 5600))],
)  # fmt: skip
def test_published_sizes_of_qwen2_vl(size, expected):
    found = smart_sizes(*np.array(size)[:, None], factor=28, least=3136, most=1_003_520)
    assert np.concatenate(found).tolist() == list(expected)


@pytest.mark.parametrize(
    ("size", "most", "grid"),
    [((16, 16), 256, (16, 16)), ((224, 224), 1024, (32, 32)), ((480, 640), 256, (14, 18)),
     ((480, 640), 1024, (27, 36)), ((1080, 1920), 256, (12, 21)), ((1080, 1920), 1024, (24, 42)),
     ((100, 4000), 256, (3, 85)), ((100, 4000), 1024, (5, 200)), ((1, 5000), 256, (1, 256))],
)  # fmt: skip
def test_published_grids_of_naflex(size, most, grid):
    found = budget_sizes(*np.array(size)[:, None], patch=16, most=most)
    assert (np.concatenate(found) // 16).tolist() == list(grid)


@pytest.mark.parametrize(("least", "most"), [(3136, 1_003_520), (784, 15_680), (200_000, 300_000)])
def test_smart_sizes_are_the_references(least, most):
    height, width = sides(10_000)
    fit = np.maximum(height, width) <= 200 * np.minimum(height, width)
    found = np.stack(smart_sizes(height, width, 28, least, most), axis=1)[fit]
    pairs = zip(height[fit].tolist(), width[fit].tolist(), strict=True)
    assert found.tolist() == [list(smart_resize(h, w, 28, least, most)) for h, w in pairs]


@pytest.mark.parametrize(("patch", "most"), [(16, 256), (16, 1024), (14, 729)])
def test_budget_sizes_are_the_references(patch, most):
    height, width = sides(10_000)
    found = np.stack(budget_sizes(height, width, patch, most), axis=1)
    pairs = zip(height.tolist(), width.tolist(), strict=True)
    assert found.tolist() == [
        list(get_image_size_for_max_num_patches(h, w, patch, most)) for h, w in pairs
    ]


# pixels and features


@pytest.mark.parametrize("smaller", [False, True])
def test_pixels_and_features_are_those_of_the_reference(kind, smaller, make_model, tmp_path):
    tower = kind.write(tmp_path)
    model, _ = attach(make_model, kind, tmp_path, **(kind.most if smaller else {}))
    encoder, config, cls = encoder_of(model)
    assert config["processor"]["image_processor_type"].endswith("ImageProcessor")
    if smaller:
        [most] = kind.most.values()
        found = config["processor"]
        assert most == (found[kind.processor] if kind.name == "naflex" else
                        found["size"][kind.processor])  # fmt: skip
    made = getattr(transformers, config["processor"]["image_processor_type"])
    reference = made.from_dict(config["processor"])
    patches, grids, features = kind.reference(tower, reference, pictures())
    batch = cls.collate([cls.preprocess(config, one) for one in pictures()])
    assert batch["patch_grids"].tolist() == grids.tolist()
    torch.testing.assert_close(batch["patches"], patches, atol=1e-5, rtol=0)
    with torch.no_grad():
        found = encoder(*batch.values())
    assert found.grids.tolist() == grids.tolist()
    torch.testing.assert_close(found.values, features, atol=1e-5, rtol=1e-5)


def test_images_never_attend_to_one_another(kind, make_model):
    model, _ = attach(make_model, kind)
    encoder, config, cls = encoder_of(model)
    items = [cls.preprocess(config, one) for one in pictures()]
    batch = cls.collate(items)
    with torch.no_grad():
        together = encoder(*batch.values())
        alone = [encoder(*item.values()).values for item in items]
    torch.testing.assert_close(together.values, torch.cat(alone), atol=1e-5, rtol=1e-5)
    assert len(together.values) == sum(together.cells)  # no padding
    wrecked = [items[0], {**items[1], "patches": items[1]["patches"] + 9.0}, *items[2:]]
    with torch.no_grad():
        changed = encoder(*cls.collate(wrecked).values()).items()
    same = [torch.equal(a, b) for a, b in zip(changed, together.items(), strict=True)]
    assert same == [True, False, True, True, True]


def test_half_precision_keeps_positions(make_model):
    model, _ = attach(make_model, SimpleNamespace(name="qwen2_vl", config=QWEN2_VL))
    exact = model.encoders["vision"].model.rotary_pos_emb.inv_freq.clone()
    model.to(torch.bfloat16)
    assert torch.equal(model.encoders["vision"].model.rotary_pos_emb.inv_freq, exact)


def test_every_parameter_trains(kind, make_model):
    model, _ = attach(make_model, kind)
    encoder, config, cls = encoder_of(model)
    batch = cls.collate([cls.preprocess(config, one) for one in pictures()])
    encoder.train()(*batch.values()).values.square().sum().backward()
    assert [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []


# images that no scheme shows as they are


@pytest.mark.parametrize("size", [(1, 300), (300, 1)])
def test_what_is_too_thin_is_refused(kind, size, make_model):
    model, _ = attach(make_model, kind)
    _, config, cls = encoder_of(model)
    with pytest.raises(MediaError, match="too thin an image"):
        cls.preprocess(config, Image.new("RGB", size))


def test_distortion_is_refused_by_name(make_model):
    model, _ = attach(make_model, SimpleNamespace(name="qwen2_vl", config=QWEN2_VL))
    _, config, cls = encoder_of(model)
    with pytest.raises(MediaError, match=r"500x13 .* as 364x28, distorted 3\.0:1 \(limit 2:1\)"):
        cls.preprocess(config, Image.new("RGB", (500, 13)))
    model, _ = attach(make_model, SimpleNamespace(name="naflex", config=NAFLEX), max_patches=40)
    _, config, cls = encoder_of(model)
    with pytest.raises(MediaError, match=r"6x900 .* as 8x320, distorted"):
        cls.preprocess(config, Image.new("RGB", (6, 900)))


# weights


@pytest.mark.parametrize("form", ["shards", "tower"])
def test_weights_of_every_form_are_read(kind, form, make_model, tmp_path):
    tower = kind.write(tmp_path, max_shard_size="20KB")
    if form == "tower":
        for file in tmp_path.glob("*"):
            file.unlink()
        tower.save_pretrained(tmp_path)
    else:
        assert len([*tmp_path.glob("*.safetensors")]) > 1
    model, _ = attach(make_model, kind, tmp_path)
    encoder, _, _ = encoder_of(model)
    found, expected = encoder.model.state_dict(), tower.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert all(name.startswith(kind.unused) for name in expected.keys() - found.keys())


CHANGES = {
    "lacks": (lambda s, name: s.pop(name), "lacks 1 tensors of it, first {bare}"),
    "foreign": (lambda s, name: s.update({name + "x": torch.ones(1)}),
                "1 tensors that its config does not speak of, first {name}x"),
    "shape": (lambda s, name: s.update({name: torch.ones(3)}),
              r"{name} has shape \(3,\), not \(32,\) as its config says"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_other_weights_are_refused(kind, change, make_model, tmp_path):
    kind.write(tmp_path)
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    [name] = [k for k in state if kind.layer in k and k.endswith("norm1.bias")
              and "text" not in k and "language" not in k]  # fmt: skip
    do, reason = CHANGES[change]
    do(state, name)
    save_file(state, file, {"format": "pt"})
    bare = name.rpartition(kind.layer)[1] + name.rpartition(kind.layer)[2]
    with pytest.raises(EntryError, match=reason.format(name=name, bare=bare)):
        attach(make_model, kind, tmp_path)


def test_a_processor_that_cuts_otherwise_is_refused(kind, make_model, tmp_path):
    kind.write(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"patch_size": 10}))
    with pytest.raises(EntryError, match=r"its image processor does not make \d+ x \d+ patches"):
        attach(make_model, kind, tmp_path)


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"model_config": {"depht": 1}}, "has no 'depht'"),
     ({"model_config": {"model_type": "vit"}}, "model_type is 'vit'")],
)  # fmt: skip
def test_another_tower_is_refused(kind, options, reason, make_model):
    with pytest.raises(EntryError, match=reason):
        attach(make_model, SimpleNamespace(name=kind.name, config=options["model_config"]))


def test_another_models_folder_is_refused(make_model, tmp_path):
    write_naflex(tmp_path)
    with pytest.raises(EntryError, match="holds a 'siglip2_vision_model'"):
        attach(make_model, SimpleNamespace(name="qwen2_vl"), tmp_path)


@pytest.mark.parametrize("value", [0, -3, 2.5, True, "many"])
def test_a_limit_is_a_whole_number(kind, value, make_model):
    [option] = kind.most
    with pytest.raises(EntryError, match=f"{option} is a whole number"):
        attach(make_model, kind, **{option: value})


def test_limits_that_leave_nothing_are_refused(make_model):
    kind = SimpleNamespace(name="qwen2_vl", config=QWEN2_VL)
    with pytest.raises(EntryError, match="min_pixels is 9000, more than max_pixels, 5000"):
        attach(make_model, kind, min_pixels=9000, max_pixels=5000)
