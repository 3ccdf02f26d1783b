"""Features of an earlier layer of a tower, or of several, are those that its library gives."""

import json
from types import SimpleNamespace

import pytest
import torch

from omni.encoders import build_encoder, encoder_class
from omni.entry import EntryError

CLIP = {
    "model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
}  # fmt: skip
OPEN = {
    "embed_dim": 16, "text_cfg": {},
    "vision_cfg": {"layers": 3, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32},
}  # fmt: skip
KINDS = {
    "transformers": {"model_config": CLIP},
    "open_clip": {"architecture": "three-layers"},
    "timm": {"architecture": "vit_tiny_patch16_224", "image_size": 32,
             "model_args": {"depth": 3, "img_size": 32}},
}  # fmt: skip


@pytest.fixture(autouse=True)
def three_layers(monkeypatch):
    import open_clip

    known = open_clip.get_model_config
    monkeypatch.setattr(open_clip, "get_model_config",
                        lambda name: OPEN if name == "three-layers" else known(name))  # fmt: skip


def build(kind: str, **more) -> SimpleNamespace:
    config = {"kind": kind, **encoder_class({"kind": kind}).describe(None, **KINDS[kind], **more)}
    assert json.loads(json.dumps(config)) == config
    torch.manual_seed(0)
    encoder = build_encoder(config).eval()
    torch.manual_seed(1)
    return SimpleNamespace(config=config, encoder=encoder, pixels=torch.randn(2, 3, 32, 32))


def states(kind: str, encoder, pixels) -> list[torch.Tensor]:
    """Return what each block makes, patches alone, (N, H, W, D): seen by hooks, not asked for."""
    model, seen = encoder.model, []
    names = {"transformers": "encoder.layers", "open_clip": "transformer.resblocks",
             "timm": "blocks"}  # fmt: skip
    blocks = next(module for name, module in model.named_modules() if name.endswith(names[kind]))
    for block in blocks:
        block.register_forward_hook(
            lambda module, args, out: seen.append(out[0] if isinstance(out, tuple) else out)
        )
    encoder.features(pixels)
    side = encoder.grid[0]
    return [one[:, 1:].unflatten(1, (side, side)) for one in seen[: len(blocks)]]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_features_are_those_of_the_layers_that_are_named(kind):
    plain = build(kind)
    assert "layer" not in plain.config
    last = plain.encoder.features(plain.pixels)
    inner = states(kind, plain.encoder, plain.pixels)
    assert len(inner) == 3
    for layer, wanted in (
        (-1, last), (-2, inner[-2]), (-3, inner[0]),
        ([-2, -3], torch.cat([inner[1], inner[0]], -1)),
        ([-1, -2], torch.cat([last, inner[-2]], -1)),
    ):  # fmt: skip
        chosen = build(kind, layer=layer)
        found = chosen.encoder.features(chosen.pixels)
        torch.testing.assert_close(found, wanted)
        assert chosen.config["width"] == chosen.encoder.width == found.shape[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_layers_that_are_none_are_named(kind):
    for layer in (0, 2, [], "last", [-1, True], -1.0):
        with pytest.raises(EntryError, match=r"layer is -1 .the last., -2, ... or a list"):
            build(kind, layer=layer)
    with pytest.raises(EntryError, match=r"there is no layer -9.*(has|range).* (3|.0 to 2)"):
        build(kind, layer=[-2, -9])


def test_a_pyramid_has_layers_of_other_sizes():
    how = {"architecture": "resnet10t", "image_size": 64}
    with pytest.raises(EntryError, match="layers of different sizes cannot lie side by side"):
        encoder_class({"kind": "timm"}).describe(None, **how, layer=[-1, -2])


def test_a_model_learns_from_an_earlier_layer_and_keeps_it(make_model, specs, talks, tmp_path):
    encoder = {**specs.vision["encoder"], "layer": [-1, -2]}
    model, processor = make_model(vision={**specs.vision, "encoder": encoder})
    batch = processor.pack([processor.encode(talks[1])])
    model.train()(**batch).loss.backward()
    assert model.encoders["vision"].model.blocks[0].attn.qkv.weight.grad.abs().sum() > 0
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(loaded(**batch).loss, model.eval()(**batch).loss)
