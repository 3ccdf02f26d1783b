"""A vocoder that is trained already: its frames, its weights, and its sound as a stream."""

import json
import math

import numpy as np
import pytest
import torch
from transformers import SpeechT5FeatureExtractor, SpeechT5HifiGan, SpeechT5HifiGanConfig

from omni import OmniForConditionalGeneration
from omni.entry import EntryError
from omni.generation.sound import Voice
from omni.heads.hifigan import HifiGan
from omni.heads.mel import BINS, RATE, SAMPLES_PER_CODE, log_mel
from omni.load import load
from stages.doctor.meta import sketches
from stages.recipe.read import load_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory, specs):
    """A folder as transformers writes it."""
    torch.manual_seed(3)
    made = SpeechT5HifiGan(SpeechT5HifiGanConfig(**specs.hifigan))
    made.mean.normal_()
    made.save_pretrained(path := tmp_path_factory.mktemp("hifigan") / "whole")
    return path


@pytest.fixture(scope="module")
def attached(make_model, specs, folder):
    model, processor = make_model(speech=specs.codec)
    model.attach("sound", {"head": {"kind": "hifigan", "weights": str(folder)}}, processor)
    return model, processor


def voiced(seconds: float = 2.0) -> torch.Tensor:
    """A voice that glides and swells, with some noise as of consonants."""
    time = torch.arange(round(seconds * RATE)) / RATE
    pitch = 120 * (1 + 0.3 * torch.sin(2 * math.pi * time))
    phase = 2 * math.pi * torch.cumsum(pitch, 0) / RATE
    tones = sum(torch.sin(n * phase) / n for n in range(1, 40))
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    swell = torch.sin(2 * math.pi * 2 * time) ** 2
    return 0.1 * (tones * swell + 0.3 * noise * (1 - swell))


def test_frames_become_those_of_its_feature_extractor():
    wave = voiced()
    found = HifiGan().frames(log_mel(wave)[None])[0]
    extractor = SpeechT5FeatureExtractor()
    wanted = torch.from_numpy(np.array(
        extractor(audio_target=wave.numpy(), sampling_rate=RATE).input_values[0]
    ))[: len(found)]  # fmt: skip
    assert found.shape == wanted.shape == (125, BINS)
    off = (found - wanted).abs()
    assert off.mean() < 0.12 < 0.2 < (wanted - wanted.mean(0)).abs().mean()
    assert (found - wanted).mean().abs() < 0.06


def test_it_is_the_net_of_the_folder(attached, folder):
    model, _ = attached
    head = model.heads["sound"]
    theirs = SpeechT5HifiGan.from_pretrained(folder)
    frames = log_mel(voiced(0.8))[None]
    with torch.no_grad():
        assert torch.equal(head(frames), theirs(head.frames(frames)))
    assert head(frames).shape == (1, 10 * SAMPLES_PER_CODE)
    assert model.head_of("vocoder") == "sound" and Voice(model).vocoder is head


def test_no_sample_depends_on_what_is_beyond_its_context(attached):
    head = attached[0].heads["sound"]
    frames = torch.randn(1, 200, BINS, generator=torch.Generator().manual_seed(0))
    changed = frames.clone()
    changed[:, 100] += 1
    with torch.no_grad():
        differ = (head.model(frames) != head.model(changed))[0].nonzero().flatten() // head.hop
    assert 100 - head.context <= differ.min() and differ.max() <= 100 + head.context
    assert HifiGan().context < 30  # of the published shape: half a second


def test_it_is_kept_with_the_checkpoint(attached, tmp_path):
    model, processor = attached
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, _ = load(tmp_path)
    codes = torch.zeros(9, 3, dtype=torch.long)
    assert torch.equal(Voice(again).wave(codes), Voice(model).wave(codes))
    assert "| sound | head hifigan |" in (tmp_path / "README.md").read_text()
    sketched = OmniForConditionalGeneration.sketch(str(tmp_path))
    shapes = {name: p.shape for name, p in model.named_parameters()}
    assert {name: p.shape for name, p in sketched.named_parameters()} == shapes


def test_a_sketch_compares_names_and_shapes(make_model, specs, folder, tmp_path):
    _, processor = make_model()
    sketched = OmniForConditionalGeneration.sketch("tiny:llama")
    sketched.attach("speech", specs.codec, processor)
    sketched.attach("sound", {"head": {"kind": "hifigan", "weights": str(folder)}}, processor)
    assert all(p.is_meta for p in sketched.heads["sound"].parameters())
    config = json.loads((folder / "config.json").read_text()) | {"upsample_initial_channel": 64}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    other = OmniForConditionalGeneration.sketch("tiny:llama")
    other.attach("spoken", specs.codec, make_model()[1])
    with pytest.raises(EntryError, match="has shape"):
        other.attach("sound", {"head": {"kind": "hifigan", "weights": str(tmp_path)}}, processor)


def test_a_plan_needs_no_hub(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a hub was asked")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    published = '{kind: hifigan, weights: "hub:microsoft/speecht5_hifigan"}'
    recipe = load_recipe("speech_tiny", [f"stages.vocoder.attach.vocoder.head={published}"])
    [head] = [model.heads["vocoder"] for stage, model, _ in sketches(recipe)
              if stage.name == "vocoder"]  # fmt: skip
    assert {name: p.shape for name, p in head.named_parameters()} == {
        name: p.shape for name, p in HifiGan().named_parameters()
    }


@pytest.mark.parametrize(("config", "reason"), [
    ({"model_type": "bert"}, "it is a 'bert', not speecht5_hifigan or hifigan"),
    ({"sampling_rate": 22_050}, "256 samples a frame, at 22050 Hz"),
    ({"upsample_rates": [8, 8, 4, 4]}, "1024 samples a frame"),
    ({"upsample_rates": [4, 4, 4, 2]}, "128 samples a frame"),
    ({"model_in_dim": 64}, "conv_pre.weight has shape"),
    ({"upsample_initial_channel": 64}, "has shape"),
])  # fmt: skip
def test_a_folder_that_is_none_is_refused(make_model, specs, folder, tmp_path, config, reason):
    model, processor = make_model(speech=specs.codec)
    said = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(said | config))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(EntryError, match=reason) as error:
        model.attach("sound", {"head": {"kind": "hifigan", "weights": str(tmp_path)}}, processor)
    assert error.value.keys[0] == "head"
    assert not model.heads and not model.config.heads and "sound" not in model.config.parts


@pytest.mark.parametrize(("entry", "reason"), [
    ({"kind": "depth", "weights": "hub:a/b"}, "head 'depth' takes no 'weights'.*is hifigan"),
    ({"kind": "hifigan", "weights": 3}, "takes 'weights', a hub:ORG/NAME or a folder"),
    ({"kind": "hifigan", "weights": "x", "model_config": {}}, "and then nothing else"),
    ({"kind": "hifigan", "weights": "/nowhere"}, "no folder with a config.json there"),
    ({"kind": "hifigan", "model_config": 3}, "model_config is a mapping"),
    ({"kind": "hifigan", "hidden": 3}, "takes no 'hidden'"),
])  # fmt: skip
def test_an_entry_that_cannot_be_is_refused(make_model, specs, entry, reason):
    model, processor = make_model(speech=specs.codec)
    with pytest.raises(EntryError, match=reason):
        model.attach("sound", {"head": entry}, processor)


def test_a_model_has_one_vocoder(make_speaker, folder):
    model, processor = make_speaker("vocoder")
    with pytest.raises(EntryError, match="'the_vocoder' is a head of kind 'vocoder' already"):
        model.attach("more", {"head": {"kind": "hifigan", "weights": str(folder)}}, processor)
