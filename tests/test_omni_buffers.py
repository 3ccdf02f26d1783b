"""A reloaded model is the saved one to the bit, tables that no file holds included."""

import copy
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from omni import OmniForConditionalGeneration, OmniProcessor
from omni.encoders import ENCODERS
from omni.load import CheckpointError, load
from omni.model.forward import load_text_tokenizer
from omni.projectors import PROJECTORS

SMALL = {"depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 2, "img_size": 64}
VIT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
       "num_attention_heads": 2, "image_size": 64, "patch_size": 16}  # fmt: skip
TIMM = {
    "test_vit": {"img_size": 64},
    "test_vit2": {"img_size": 64},
    "eva02_tiny_patch14_224": {"img_size": 56, "depth": 1},
    "vit_small_patch16_dinov3": {"img_size": 64, "depth": 1},
    "vit_pe_core_tiny_patch16_384": {"img_size": 64, "depth": 1},
    "vit_base_patch16_rope_reg1_gap_256": {
        "img_size": 64, "embed_dim": 64, "depth": 1, "num_heads": 1
    },
    "beit_base_patch16_224": {"img_size": 64, "embed_dim": 32, "depth": 1, "num_heads": 2},
    "swin_tiny_patch4_window7_224": {**SMALL, "embed_dim": 8},
    "swinv2_tiny_window8_256": {**SMALL, "embed_dim": 16},
    "hiera_tiny_224": {"img_size": (64, 64), "embed_dim": 16, "stages": (1, 1, 1, 1)},
    "test_efficientnet": {},
    "test_resnet": {},
}  # fmt: skip
TRANSFORMERS = ["vit", "clip_vision_model", "siglip_vision_model", "dinov2", "dinov3_vit",
                "beit", "ijepa"]  # fmt: skip


def timm(name):
    options = TIMM[name]
    size = options.get("img_size", 64)
    size = size if isinstance(size, int) else size[0]
    return {"kind": "timm", "architecture": name, "image_size": size, "model_args": options}


ALL = {f"timm {n}": timm(n) for n in TIMM} | {
    f"transformers {n}": {"kind": "transformers", "model_config": {"model_type": n, **VIT}}
    for n in TRANSFORMERS
} | {
    "qwen2_vl": {"kind": "qwen2_vl",
                 "model_config": {"depth": 1, "embed_dim": 32, "num_heads": 2, "hidden_size": 8}},
    "naflex": {"kind": "naflex", "model_config": {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 48, "num_patches": 16}},
}  # fmt: skip


def reloaded(model, folder, dtype=torch.float32):
    model.save_pretrained(folder)
    junk = [torch.full((1 << 16,), 1e30) for _ in range(20)]  # what freed memory may hold
    del junk
    return OmniForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()


def assert_same(model, other, name):
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    found = dict(other.named_parameters()) | dict(other.named_buffers())
    assert list(tensors) == list(found)
    off = [k for k in tensors if k.split(".")[0] != "language_model"
           and not torch.equal(tensors[k], found[k])]  # fmt: skip
    assert not off
    config = model.config.modalities[name]["encoder"]
    cls = ENCODERS[config["kind"]]
    noise = np.random.default_rng(0).integers(0, 255, (2, 70, 50, 3), dtype=np.uint8)
    batch = cls.collate([cls.preprocess(config, Image.fromarray(one)) for one in noise])
    media = [batch[i].to(model.dtype) if i not in cls.host_inputs else batch[i] for i in cls.inputs]
    with torch.no_grad():
        features = model.encode(name, *media)
        assert features.isfinite().all()
        # a convolution takes another kernel where loaded weights lie elsewhere in memory
        close = 1e-6 if any(isinstance(m, nn.BatchNorm2d) for m in model.modules()) else 0
        torch.testing.assert_close(other.encode(name, *media), features, atol=close, rtol=0)


@pytest.mark.parametrize("which", ALL)
def test_an_encoder_is_reloaded_to_the_bit(which, make_model, tmp_path):
    model, _ = make_model(vision={"encoder": ALL[which], "projector": {"kind": "patch_concat_mlp"}})
    assert_same(model, reloaded(model, tmp_path), "vision")
    half = OmniForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    assert_same(copy.deepcopy(model).to(torch.bfloat16), half, "vision")


class Tables(nn.Module):
    """A part of somebody else's, which computes in its constructor and saves none of it."""

    def __init__(self, input_width, output_width, concat=2):
        super().__init__()
        self.concat, self.proj = concat, nn.Linear(input_width * concat**2, output_width)
        self.register_buffer("far", torch.arange(output_width) / 7, persistent=False)
        self.register_buffer("mask", None, persistent=False)

    @staticmethod
    def tokens(config, grids):
        return (grids // config["concat"]).prod(axis=1)

    def forward(self, features):
        grid = torch.stack(features.items())
        n, h, w, d = grid.shape
        c = self.concat
        cells = grid.view(n, h // c, c, w // c, c, d).transpose(2, 3).reshape(-1, c * c * d)
        return self.proj(cells) + self.far


def test_a_projector_is_reloaded_to_the_bit(make_model, specs, tmp_path, monkeypatch):
    monkeypatch.setitem(PROJECTORS, "tables", Tables)
    spec = {"encoder": ALL["timm test_vit"], "projector": {"kind": "tables"}}
    model, _ = make_model(vision=spec)
    assert_same(model, reloaded(model, tmp_path), "vision")


@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "qwen2", "phi3", "gpt_neox", "mistral"])
def test_an_llm_keeps_its_tables(kind, specs, tmp_path):
    torch.manual_seed(0)
    model = OmniForConditionalGeneration.from_text(f"tiny:{kind}").eval()
    processor = OmniProcessor(load_text_tokenizer(f"tiny:{kind}"))
    half = reloaded(model, tmp_path, torch.bfloat16)
    for one in (model, half):
        one.attach("vision", specs.vision, copy.deepcopy(processor))
    buffers = dict(model.language_model.named_buffers())
    tables = {k: v for k, v in half.language_model.named_buffers() if "inv_freq" in k}
    assert tables
    for name, value in tables.items():
        assert torch.equal(value, buffers[name])  # in full precision, whatever the weights are in
    ids = torch.arange(60, 90)[None]
    with torch.no_grad():
        assert torch.equal(reloaded(model, tmp_path)(ids).logits, model(ids).logits)


def test_loading_does_not_move_chance(tiny_checkpoint):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    OmniForConditionalGeneration.from_pretrained(tiny_checkpoint)
    assert torch.equal(torch.rand(4), expected)


def test_a_checkpoint_without_all_tensors_is_refused(tiny_checkpoint, tmp_path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "damaged")
    state = load_file(folder / "model.safetensors")
    gone = "encoders.vision.model.pos_embed"
    del state[gone]
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"lacks 1 tensors, the first: {gone}"):
        load(folder)


def test_every_kind_of_encoder_that_reads_images_is_reloaded():
    kinds = {spec["kind"] for spec in ALL.values()} | {"open_clip"}  # see test_omni_encoders
    assert kinds == {kind for kind, cls in ENCODERS.items() if cls.media == "image"}
