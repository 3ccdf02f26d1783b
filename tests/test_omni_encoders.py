"""Every registered encoder and projector: counts without weights equal what the model makes."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import WhisperFeatureExtractor

from data_shards.index.index import Index
from data_shards.read.entry import read_entry
from data_shards.shards.sample import Sample
from data_shards.shards.write import write_shards
from omni import OmniForConditionalGeneration
from omni.encoders import ENCODERS, build_encoder
from omni.encoders.audio import WhisperEncoder, log_mel
from omni.processing.messages import assistant, audio, image, user
from omni.projectors import complete, token_counts

OPEN_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1},
}
VIT = {"model_type": "vit", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
       "intermediate_size": 48, "image_size": 32, "patch_size": 8}  # fmt: skip
HUBERT = {"model_type": "hubert", "hidden_size": 16, "num_hidden_layers": 1,
          "num_attention_heads": 2, "intermediate_size": 24, "conv_dim": (8,) * 7,
          "num_conv_pos_embeddings": 5, "num_conv_pos_embedding_groups": 2}  # fmt: skip
QWEN2_VL = {"depth": 2, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2, "hidden_size": 24}
NAFLEX = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
          "intermediate_size": 48, "patch_size": 8, "num_patches": 16}  # fmt: skip
SPECS = {
    "timm conv": {"kind": "timm", "architecture": "test_efficientnet", "image_size": 96},
    "timm vit": {"kind": "timm", "architecture": "test_vit", "image_size": 48,
                 "model_args": {"img_size": 48}},
    "open_clip": {"kind": "open_clip", "architecture": "tiny"},
    "transformers": {"kind": "transformers", "model_config": VIT},
    "tiles": {"kind": "transformers", "model_config": VIT, "resize": {"by": "tiles", "most": 4}},
    "qwen2_vl": {"kind": "qwen2_vl", "model_config": QWEN2_VL, "max_pixels": 28 * 28 * 20},
    "naflex": {"kind": "naflex", "model_config": NAFLEX, "max_patches": 40},
    "whisper": None,
    "transformers_audio": {"kind": "transformers_audio", "model_config": HUBERT},
    "codec": None,
    "mimi": None,
    "encodec": None,
    "dac": None,
}  # fmt: skip


@pytest.fixture(params=SPECS)
def attached(request, make_model, specs, monkeypatch):
    """Give (modality, model, processor) of each kind of encoder."""
    import open_clip

    monkeypatch.setattr(open_clip, "get_model_config", {"tiny": OPEN_CLIP}.get)
    given = {"whisper": specs.audio, "codec": specs.codec} | specs.neural
    if request.param in given:
        return "audio", *make_model(audio=given[request.param])
    encoder = SPECS[request.param]
    if ENCODERS[encoder["kind"]].media == "audio":
        spec = {"encoder": encoder, "projector": specs.audio["projector"]}
        return "audio", *make_model(audio=spec)
    spec = {"encoder": encoder, "projector": {"kind": "patch_concat_mlp"}}
    return "vision", *make_model(vision=spec)


def test_every_registered_kind_is_tested():
    elsewhere = {"whisper", "codec", "transformers_codec"}
    assert {*elsewhere, *(s["kind"] for s in SPECS.values() if s)} == set(ENCODERS)


def test_an_index_knows_the_length_of_every_sample(attached, make_picture, make_sound, tmp_path):
    name, _, processor = attached
    kind = ENCODERS[processor.modalities[name]["encoder"]["kind"]].media
    meta = {"source": "t", "license": "MIT", "schema": 1}
    if kind == "audio":
        part, show = "aud0.wav", audio
        clips = [(0.01, 16_000), (0.4, 16_000), (1.1, 44_100), (0.5, 44_101), (30, 16_000),
                 (30.02, 8_000), (61.3, 8_000)]  # fmt: skip
        media = [make_sound(seconds, rate=rate) for seconds, rate in clips]
    else:
        part, show = "img0.png", image
        media = [make_picture(n, size) for n, size in enumerate([(40, 40), (90, 20), (300, 200)])]
    asks = [[show(part), "ünï <b>"], ["a", show(part), " b", show(part)], [show(part)]]
    samples = [
        Sample([user(*asks[n % 3]), assistant(f"{n}"), user("more?"), assistant("no")],
               {part: data}, meta)
        for n, data in enumerate(media)
    ]  # fmt: skip
    write_shards([*samples, Sample([user("text"), assistant("only")], {}, meta)], tmp_path / "s")
    index = Index.open(tmp_path / "s")
    lengths = index.lengths(processor)
    config = processor.modalities[name]["encoder"]
    features = lengths.frames if kind == "audio" else lengths.patches
    for row in range(len(index)):
        encoded = processor.encode(read_entry(index.entry(row)).conversation())
        assert len(encoded) == lengths.tokens[row]
        items = encoded.media.get(name, [])
        grids = [grid for i in items for grid in ENCODERS[config["kind"]].grids(config, i)]
        assert sum(math.prod(grid) for grid in grids) == features[row]
    assert not (lengths.patches if kind == "audio" else lengths.frames).any()


def test_features_are_as_many_as_planned_and_survive_a_save(
    attached, make_picture, make_sound, tmp_path
):
    name, model, _ = attached
    config = model.config.modalities[name]
    cls = ENCODERS[config["encoder"]["kind"]]
    if name == "audio":
        media = [make_sound(seconds) for seconds in (0.4, 0.96, 0.65)]  # 0.96 s: three quanta
    else:
        media = [make_picture(n, s) for n, s in enumerate([(40, 40), (90, 20), (300, 200)])]
    items = [cls.preprocess(config["encoder"], one) for one in media]
    batch = cls.collate(items)
    tensors = [batch[n] for n in cls.inputs]
    with torch.no_grad():
        features = model.encoders[name](*tensors)
        tokens = model.encode(name, *tensors)
    grids = [g for item in items for g in cls.grids(config["encoder"], item)]
    assert features.grids.tolist() == [list(grid) for grid in grids]
    assert len(features.values) == sum(features.cells)
    assert len(tokens) == token_counts(config["projector"], np.array(grids)).sum()
    assert tokens.isfinite().all()
    # a medium alone has the features that it has in a batch
    with torch.no_grad():
        alone = [model.encode(name, *[item[n] for n in cls.inputs]) for item in items]
    torch.testing.assert_close(torch.cat(alone), tokens, atol=1e-5, rtol=1e-4)
    if name != "audio" or config["projector"]["kind"] != "codes":  # one tone may be one code
        assert (alone[0][0] - alone[1][0]).abs().max() > 1e-6
    model.save_pretrained(tmp_path)
    loaded = OmniForConditionalGeneration.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        # close, not equal: loaded weights may lie elsewhere in memory and take another kernel
        torch.testing.assert_close(loaded.encode(name, *tensors), tokens, atol=1e-6, rtol=1e-4)


def test_new_tokens_are_as_large_as_text(attached, make_picture, make_sound):
    name, model, _ = attached
    config = model.config.modalities[name]
    cls = ENCODERS[config["encoder"]["kind"]]
    item = cls.preprocess(
        config["encoder"], make_sound(1.0) if name == "audio" else make_picture(0)
    )
    with torch.no_grad():
        tokens = model.encode(name, *[item[n] for n in cls.inputs])
    ratio = tokens.std() / model.get_input_embeddings().weight.std()
    assert 0.2 < ratio < 5


def test_log_mel_is_whispers():
    noise = np.random.default_rng(0).standard_normal(480_000).astype(np.float32) * 0.1
    expected = WhisperFeatureExtractor()(noise, sampling_rate=16_000, return_tensors="pt")
    ours = log_mel(torch.from_numpy(noise), 80)
    torch.testing.assert_close(ours, expected["input_features"][0], atol=1e-4, rtol=0)


def test_our_whisper_encoder_is_transformers_on_a_full_window(specs):
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as Reference

    config = specs.audio["encoder"]["model_config"]
    torch.manual_seed(0)
    reference = Reference(WhisperConfig(**config)).eval()
    ours = WhisperEncoder(config).eval()
    state = reference.state_dict()
    ours.embed_positions.data = state.pop("embed_positions.weight")
    ours.model.load_state_dict(state)
    mel = torch.randn(1, 80, 3000)
    with torch.no_grad():
        expected = reference(mel).last_hidden_state
        found = ours(mel, torch.tensor([1500])).values
        torch.testing.assert_close(found, expected[0], atol=1e-5, rtol=1e-4)


def test_long_audio_becomes_several_windows(specs, make_sound):
    config = {"model_config": specs.audio["encoder"]["model_config"]}
    item = WhisperEncoder.preprocess(config, make_sound(61.0))
    assert item["input_features"].shape[0] == 3
    assert WhisperEncoder.grids(config, item) == [(1500,), (1500,), (50,)]
    projector = complete(specs.audio["projector"])
    assert token_counts(projector, np.array([(50,)])) == [math.ceil(50 / 4)]


def test_collate_and_split_are_inverse(specs, make_sound):
    config = {"model_config": specs.audio["encoder"]["model_config"]}
    items = [WhisperEncoder.preprocess(config, make_sound(s)) for s in (0.3, 1.7)]
    batch = WhisperEncoder.collate(items)
    parts = WhisperEncoder.split(config, batch["input_features"], batch["audio_frames"])
    for item, (mel, frames) in zip(items, parts, strict=True):
        assert torch.equal(mel, item["input_features"])
        assert torch.equal(frames, item["audio_frames"])


def test_padding_does_not_reach_the_projector(specs, make_sound, make_model):
    model, _ = make_model(audio=specs.audio)
    config = model.config.modalities["audio"]["encoder"]
    item = WhisperEncoder.preprocess(config, make_sound(0.4))
    padded = F.pad(item["input_features"], (0, 400))
    with torch.no_grad():
        tokens = model.encode("audio", item["input_features"], item["audio_frames"])
        assert torch.equal(model.encode("audio", padded, item["audio_frames"]), tokens)


def test_a_clips_last_token_is_made_of_its_own_frames(specs, make_sound, make_model):
    model, _ = make_model(audio=specs.audio)
    config = model.config.modalities["audio"]["encoder"]
    item = WhisperEncoder.preprocess(config, make_sound(0.27))  # 14 frames, run as 16
    projector = model.projectors["audio"]
    with torch.no_grad():
        [features] = model.encoders["audio"](*item.values()).items()
        four = F.pad(projector.norm(features), (0, 0, 0, 2)).view(4, -1)
        tokens = model.encode("audio", *item.values())
        torch.testing.assert_close(tokens, projector.mlp(four), atol=1e-6, rtol=1e-5)


def test_an_encoder_runs_without_memory_or_arithmetic(attached, make_picture, make_sound):
    """On torch's meta device: what `stages.metrics.flops` reads its operations off."""
    name, model, processor = attached
    config = processor.modalities[name]["encoder"]
    cls = ENCODERS[config["kind"]]
    medium = make_sound(0.5) if cls.media == "audio" else make_picture(0)
    item, *_ = cls.split(config, *cls.preprocess(config, medium).values())
    real = model.encoders[name].eval()(*item)
    with torch.device("meta"):
        sketch = build_encoder(config).eval()
    found = sketch(*(t.to("meta") if t.is_floating_point() else t for t in item))
    assert found.values.shape == real.values.shape
    assert torch.equal(found.grids, real.grids)
