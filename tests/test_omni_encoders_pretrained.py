"""A pretrained tower sees what its author's library shows it, with all of its tensors, or is
refused by name while it is attached."""

import json
import shutil
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    BitImageProcessor,
    CLIPImageProcessor,
    CLIPProcessor,
    ConvNextImageProcessor,
    SiglipImageProcessor,
    SiglipProcessor,
    ViTImageProcessor,
)

from omni import OmniForConditionalGeneration, OmniProcessor
from omni.encoders import ENCODERS
from omni.encoders.resize import WAYS
from omni.model.forward import load_text_tokenizer

SIZES = [(79, 40), (61, 120), (64, 64), (7, 5)]  # no square is to distort them beyond 2:1
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 2, "image_size": 32, "patch_size": 8}  # fmt: skip
TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 1, "vocab_size": 260}  # fmt: skip


def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)) for w, h in SIZES]


def described(model):
    return model.config.modalities["vision"]["encoder"]


def pixels(config, picture):
    return ENCODERS[config["kind"]].preprocess(config, picture)["pixel_values"][0]


def attach(make_model, folder, kind="transformers", **options):
    spec = {"kind": kind, "weights": str(folder), **options}
    return make_model(vision={"encoder": spec, "projector": {"kind": "patch_concat_mlp"}})


def assert_shown(config, reference):
    """Compare preprocessing with a function of the library, image -> (3, S, S)."""
    for picture in pictures():
        torch.testing.assert_close(pixels(config, picture), reference(picture), atol=1e-5, rtol=0)


# transformers: where it keeps its settings, and what they are

PROCESSORS = {
    "clip": CLIPImageProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}),
    "siglip": SiglipImageProcessor(size={"height": 32, "width": 32}, resample=2),
    "vit": ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.1, 0.2, 0.3]),
    "dinov2": BitImageProcessor(
        size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}, do_convert_rgb=True
    ),
    "convnext": ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.8),
}


def write_tower(folder, kind, tokenizer=None):
    torch.manual_seed(0)
    if kind in ("clip", "siglip"):
        config = AutoConfig.for_model(kind, text_config=TEXT, vision_config=TOWER)
    elif kind == "convnext":
        config = AutoConfig.for_model(
            kind, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, image_size=32
        )
    else:
        config = AutoConfig.for_model(kind, **TOWER)
    AutoModel.from_config(config).save_pretrained(folder)
    if tokenizer:  # transformers 5 then keeps them in processor_config.json
        whole = CLIPProcessor if kind == "clip" else SiglipProcessor
        whole(image_processor=PROCESSORS[kind], tokenizer=tokenizer).save_pretrained(folder)
        assert not (folder / "preprocessor_config.json").exists()
    else:
        PROCESSORS[kind].save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", [*PROCESSORS, "clip whole", "siglip whole"])
def test_a_transformers_tower_sees_what_its_processor_shows(kind, make_model, tmp_path):
    name, _, whole = kind.partition(" ")
    tokenizer = load_text_tokenizer("tiny:llama") if whole else None
    folder = write_tower(tmp_path / "tower", name, tokenizer)
    model, processor = attach(make_model, folder)
    config = described(model)
    author = AutoImageProcessor.from_pretrained(folder)
    assert_shown(config, lambda p: author(images=p, return_tensors="pt")["pixel_values"][0])
    assert config["mean"] == [*author.image_mean]
    assert config["std"] == [*author.image_std]
    model.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    shutil.rmtree(folder)  # the checkpoint says it all
    again = OmniProcessor.from_pretrained(tmp_path / "saved").modalities["vision"]["encoder"]
    reloaded = described(OmniForConditionalGeneration.from_pretrained(tmp_path / "saved"))
    for picture in pictures():
        assert torch.equal(pixels(again, picture), pixels(config, picture))
        assert torch.equal(pixels(reloaded, picture), pixels(config, picture))


@pytest.mark.parametrize("kind", PROCESSORS)
def test_another_image_size_keeps_the_authors_way(kind, make_model, tmp_path):
    model, _ = attach(make_model, write_tower(tmp_path, kind), image_size=64)
    author = AutoImageProcessor.from_pretrained(tmp_path)
    other = json.loads(author.to_json_string())
    sizes = {"clip": {"shortest_edge": 72}, "dinov2": {"shortest_edge": 80},
             "convnext": {"shortest_edge": 64}}  # fmt: skip
    other |= {"size": sizes.get(kind, {"height": 64, "width": 64})}
    if other.get("crop_size"):
        other["crop_size"] = {"height": 64, "width": 64}
    wanted = type(author).from_dict(other)
    assert_shown(
        described(model), lambda p: wanted(images=p, return_tensors="pt")["pixel_values"][0]
    )


# timm


def write_timm(folder, architecture="test_vit", pretrained=None, **args):
    torch.manual_seed(0)
    model = timm.create_model(architecture, num_classes=7, **args)
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {"architecture": architecture, "num_classes": 7, "model_args": args}
    config["pretrained_cfg"] = {"mean": [0.4] * 3, "std": [0.3] * 3, "input_size": [3, 48, 48]}
    config["pretrained_cfg"] |= pretrained or {}
    (folder / "config.json").write_text(json.dumps(config))
    return model.eval()


def timm_shows(folder, size=48):
    given = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    data = resolve_data_config({}, pretrained_cfg=given) | {"input_size": (3, size, size)}
    return create_transform(**data, is_training=False)


TIMM_WAYS = {
    "center": {"crop_pct": 0.8, "crop_mode": "center", "interpolation": "bilinear"},
    "squash": {"crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bicubic"},
    "border": {"crop_pct": 0.9, "crop_mode": "border", "interpolation": "bicubic"},
    "default crop": {"interpolation": "bicubic"},
}


@pytest.mark.parametrize("way", TIMM_WAYS)
@pytest.mark.parametrize("size", [None, 64])
def test_a_timm_model_sees_what_timm_shows(way, size, make_model, tmp_path):
    options = {} if size is None else {"image_size": size}
    write_timm(tmp_path, "test_resnet", TIMM_WAYS[way])
    model, _ = attach(make_model, tmp_path, "timm", **options)
    assert_shown(described(model), timm_shows(tmp_path, size or 48))


def test_without_stored_ways_of_resizing_images_are_letterboxed(make_model, tmp_path):
    write_timm(tmp_path, "test_resnet")
    model, _ = attach(make_model, tmp_path, "timm")
    config = described(model)
    assert config["resize"] == "letterbox"
    shown = pixels(config, Image.new("RGB", (96, 48)))
    white = (1 - 0.4) / 0.3
    torch.testing.assert_close(shown[:, 0, 0], torch.full((3,), white))
    torch.testing.assert_close(shown[:, 24, 24], torch.full((3,), -0.4 / 0.3))
    del config["resize"]  # a checkpoint of before
    assert torch.equal(pixels(config, Image.new("RGB", (96, 48))), shown)
    model, _ = attach(make_model, tmp_path, "timm", resize="author")  # timm's own defaults
    assert_shown(described(model), timm_shows(tmp_path))


@pytest.mark.parametrize("way", WAYS)
def test_a_way_of_our_own_can_be_chosen(way, make_model, tmp_path):
    write_tower(tmp_path, "clip")
    model, _ = attach(make_model, tmp_path, resize=way)
    config = described(model)
    assert config["resize"] == way
    assert config["mean"] == [*PROCESSORS["clip"].image_mean]
    half = Image.new("RGB", (96, 48))  # black, its right half white
    half.paste((255, 255, 255), (48, 0, 96, 48))
    red = pixels(config, half)[0] > 0
    assert red[16].tolist() == [False] * 16 + [True] * 16
    assert red[0].tolist() == ([True] * 32 if way == "letterbox" else red[16].tolist())


def test_ways_that_do_not_exist_are_refused(make_model, tmp_path):
    write_tower(tmp_path, "vit")
    with pytest.raises(ValueError, match="resize is 'stretch'; use letterbox, squash, crop or"):
        attach(make_model, tmp_path, resize="stretch")
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match="the weights come without their preprocessing"):
        attach(make_model, tmp_path, resize="author")
    write_tower(tmp_path, "dinov2")
    PROCESSORS["dinov2"].from_dict(
        {"size": {"shortest_edge": 32}, "do_center_crop": False}
    ).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"makes \(3, 32, 64\) of an image, not \(3, 32, 32\)"):
        attach(make_model, tmp_path)


# open_clip


def write_open_clip(folder, preprocess=None, **vision):
    tower = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8, **vision}
    text = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1}
    model_cfg = {"embed_dim": 16, "vision_cfg": tower, "text_cfg": text}
    torch.manual_seed(0)
    model: Any = open_clip.model.CLIP(**json.loads(json.dumps(model_cfg))).eval()
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    config = {"model_cfg": model_cfg} | ({"preprocess_cfg": preprocess} if preprocess else {})
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return model.visual


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest", None])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_an_open_clip_tower_sees_what_open_clip_shows(mode, interpolation, make_model, tmp_path):
    preprocess = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": interpolation,
                  "fill_color": 7}  # fmt: skip
    preprocess |= {"resize_mode": mode} if mode else {}
    write_open_clip(tmp_path, preprocess)
    model, _ = attach(make_model, tmp_path, "open_clip")
    cfg = open_clip.transform.PreprocessCfg(size=32, **preprocess)
    assert_shown(described(model), open_clip.transform.image_transform_v2(cfg, is_train=False))


@pytest.mark.parametrize("size", [32, 48])
def test_open_clips_features_at_any_size(size, make_model, tmp_path):
    for name in ("stored", "resized"):
        (tmp_path / name).mkdir()
    tower = write_open_clip(tmp_path / "stored")
    if size != 32:
        state = {f"visual.{k}": v for k, v in tower.state_dict().items()}
        tower = write_open_clip(tmp_path / "resized", image_size=size)
        open_clip.model.resize_pos_embed(state, type("Model", (), {"visual": tower}))
        tower.load_state_dict({k.removeprefix("visual."): v for k, v in state.items()})
    tower.output_tokens = True
    model, _ = attach(make_model, tmp_path / "stored", "open_clip", image_size=size)
    batch = torch.randn(2, 3, size, size)
    with torch.no_grad():
        expected = tower(batch)[1]
        found = model.encoders["vision"](batch)
    assert found.grids.tolist() == [[size // 8] * 2] * 2
    torch.testing.assert_close(found.values, expected.flatten(0, 1), atol=1e-5, rtol=1e-4)


# positions of another size


@pytest.mark.parametrize(
    "args", [{}, {"class_token": False, "global_pool": "avg"}, {"reg_tokens": 3}]
)
def test_timms_positions_are_resized_as_timm_does(args, make_model, tmp_path):
    args = {**args, "dynamic_img_size": False}
    source = write_timm(tmp_path, "test_vit", **args)
    reference: Any = timm.create_model("test_vit", num_classes=0, img_size=64, **args).eval()
    convert = timm.models.vision_transformer.checkpoint_filter_fn
    reference.load_state_dict(convert(source.state_dict(), reference), strict=False)
    model, _ = attach(make_model, tmp_path, "timm", image_size=64)
    assert described(model)["grid"] == [4, 4]
    batch = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = reference.forward_features(batch)[:, reference.num_prefix_tokens :]
        found = model.encoders["vision"](batch).values
    torch.testing.assert_close(found, expected.flatten(0, 1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["clip_vision_model", "siglip_vision_model", "vit", "dinov2"])
def test_transformers_positions_are_interpolated(kind, make_model, tmp_path):
    torch.manual_seed(0)
    reference = AutoModel.from_config(AutoConfig.for_model(kind, **TOWER)).eval()
    reference.save_pretrained(tmp_path)
    model, _ = attach(make_model, tmp_path, image_size=48)
    assert described(model)["grid"] == [6, 6]
    batch = torch.randn(2, 3, 48, 48)
    options = {} if kind == "dinov2" else {"interpolate_pos_encoding": True}
    with torch.no_grad():
        expected = reference(batch, **options).last_hidden_state[:, -36:]
        found = model.encoders["vision"](batch).values
    torch.testing.assert_close(found, expected.flatten(0, 1), atol=1e-5, rtol=1e-4)


# what is refused


def damage(folder, name, change):
    state = load_file(folder / name)
    change(state)
    save_file(state, folder / name, {"format": "pt"})


def drop(state, ending):
    del state[next(key for key in state if key.endswith(ending))]


@pytest.mark.parametrize("kind", ["clip", "siglip", "vit", "dinov2"])
def test_a_tower_that_lacks_tensors_is_refused(kind, make_model, tmp_path):
    write_tower(tmp_path, kind)
    layer = next(k for k in load_file(tmp_path / "model.safetensors")
                 if "layer" in k and ".1." in k and "text" not in k)  # fmt: skip
    damage(tmp_path, "model.safetensors", lambda state: state.pop(layer))
    with pytest.raises(ValueError, match=r"lacks 1 tensors .* first .*layer"):
        attach(make_model, tmp_path)


@pytest.mark.parametrize("kind", ["clip", "siglip", "vit", "dinov2"])
def test_a_tower_that_has_more_layers_than_its_config_is_refused(kind, make_model, tmp_path):
    write_tower(tmp_path, kind)
    config = json.loads((tmp_path / "config.json").read_text())
    tower = config.get("vision_config", config)
    tower |= {"num_hidden_layers": 1}
    for derived in ("out_features", "out_indices", "stage_names"):
        tower.pop(derived, None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="tensors that its config does not speak of, first"):
        attach(make_model, tmp_path)


def test_a_head_or_a_pooler_may_be_missing(make_model, tmp_path):
    AutoModelForImageClassification.from_config(
        AutoConfig.for_model("vit", **TOWER)
    ).save_pretrained(tmp_path)
    model, _ = attach(make_model, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    found = model.encoders["vision"].model.state_dict()
    assert torch.equal(found["layernorm.weight"], stored["vit.layernorm.weight"])


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("timm", lambda s: drop(s, "pos_embed"), "lacks 1 tensors, first pos_embed"),
        ("timm", lambda s: s.update({"blocks.9.x": torch.ones(1)}), "1 tensors are not of"),
        ("open_clip", lambda s: drop(s, "conv1.weight"), "missing or foreign, first visual.conv1"),
        ("open_clip", lambda s: s.update({"visual.x": torch.ones(1)}), "first visual.x"),
    ],
)
def test_missing_and_foreign_tensors_are_refused(kind, change, reason, make_model, tmp_path):
    if kind == "timm":
        write_timm(tmp_path, img_size=48)
    else:
        write_open_clip(tmp_path)
    name = "model.safetensors" if kind == "timm" else "open_clip_model.safetensors"
    damage(tmp_path, name, change)
    with pytest.raises(ValueError, match=reason):
        attach(make_model, tmp_path, kind)


def test_an_encoder_that_is_refused_leaves_no_trace(make_model, tmp_path):
    write_timm(tmp_path, img_size=48)
    damage(tmp_path, "model.safetensors", lambda s: s["norm.bias"].fill_(torch.nan))
    model, processor = make_model()
    before, vocabulary = model.config.to_dict(), processor.tokenizer.get_vocab()
    spec = {"encoder": {"kind": "timm", "weights": str(tmp_path)},
            "projector": {"kind": "patch_concat_mlp"}}  # fmt: skip
    with pytest.raises(ValueError, match="features of a plain image are not finite"):
        model.attach("vision", spec, processor)
    assert model.config.to_dict() == before
    assert processor.tokenizer.get_vocab() == vocabulary
    assert not processor.modalities
    assert not model.encoders
    assert not model.projectors


REFUSED = {
    "a class token alone": ({"kind": "timm", "architecture": "pit_ti_224"}, "pit_ti_224"),
    "patches dropped in training": (
        {"kind": "timm", "architecture": "test_vit",
         "model_args": {"img_size": 48, "patch_drop_rate": 0.5}, "image_size": 48},
        r"test_vit: in training its features",
    ),
    "positions of a fixed size": (
        {"kind": "timm", "architecture": "mixer_s32_224", "image_size": 100,
         "model_args": {"img_size": 224}},
        r"images of 100 pixels: .* Its own images are of 224 x 224",
    ),
    "an oblong": (
        {"kind": "timm", "architecture": "test_resnet", "image_size": [64, 32]}, "only square"
    ),
    "an oblong of transformers": (
        {"kind": "transformers",
         "model_config": {"model_type": "vit", **TOWER, "image_size": [64, 32]}}, "only square"
    ),
    "no image size": (
        {"kind": "transformers", "model_config": {"model_type": "resnet", "depths": [1],
                                                  "hidden_sizes": [8]}},
        "none is stored with the weights; give one",
    ),
    "patches that are hidden": (
        {"kind": "transformers", "model_config": {"model_type": "vit_mae", **TOWER}}, "vit_mae"
    ),
    "pictures joined": (
        {"kind": "transformers",
         "model_config": {"model_type": "pixtral", **TOWER, "head_dim": 16}}, "pixtral"
    ),
    "patches given one by one": (
        {"kind": "transformers", "image_size": 32,
         "model_config": {"model_type": "siglip2_vision_model", **TOWER}}, "siglip2"
    ),
    "units of patches": (
        {"kind": "transformers", "model_config": {
            "model_type": "hiera", "embed_dim": 8, "image_size": [64, 64], "depths": [1] * 4,
            "num_heads": [1] * 4}}, "hiera"
    ),
    "no model for it": (
        {"kind": "transformers", "image_size": 32,
         "model_config": {"model_type": "blip_vision_model", **TOWER}}, "blip_vision_model"
    ),
    "neither weights nor an architecture": (
        {"kind": "timm", "resize": "crop"}, "needs weights, or architecture"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_square_of_features_is_refused(what, make_model):
    encoder, reason = REFUSED[what]
    with pytest.raises(ValueError, match=reason):
        make_model(vision={"encoder": encoder, "projector": {"kind": "patch_concat_mlp"}})


@pytest.mark.parametrize(
    "vision",
    [{"attentional_pool": True, "attn_pooler_heads": 4}, {"pool_type": "none"},
     {"image_size": [32, 16]}, {"layers": [1, 1, 1, 1]}],
)  # fmt: skip
def test_open_clip_towers_without_patches_are_refused(vision, make_model, monkeypatch):
    tower = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8, **vision}
    known = {"odd": {"embed_dim": 16, "vision_cfg": tower, "text_cfg": {}}}
    monkeypatch.setattr(open_clip, "get_model_config", known.get)
    encoder = {"kind": "open_clip", "architecture": "odd"}
    with pytest.raises(ValueError, match="encoder open_clip 'odd'"):
        make_model(vision={"encoder": encoder, "projector": {"kind": "patch_concat_mlp"}})


def test_a_convolution_that_onednn_breaks_is_trained(make_model, make_picture):
    model, _ = make_model(vision={
        "encoder": {"kind": "timm", "architecture": "fastvit_t8", "image_size": 64},
        "projector": {"kind": "patch_concat_mlp"},
    })  # fmt: skip
    encoder = model.encoders["vision"].train()
    config = described(model)
    encoder(torch.stack([pixels(config, p) for p in pictures()])).values.sum().backward()
    assert encoder.model.stem[0].conv_kxk[0].conv.weight.grad.isfinite().all()
