"""Clips of every length: the windows that are planned, cut, batched and encoded are the same.

A pretrained Whisper gives its own features, or is refused while it is attached.
"""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

from omni.encoders.audio import QUANTUM, STRIDE, WhisperEncoder
from omni.generation.cut import cut, spans
from omni.media.facts import facts_of
from omni.processing.messages import assistant, audio, user


def small(positions):
    return {"model_config": {"d_model": 8, "encoder_layers": 1, "encoder_attention_heads": 1,
                             "encoder_ffn_dim": 8, "num_mel_bins": 4,
                             "max_source_positions": positions}}  # fmt: skip


def facts_array(clips):
    found = [facts_of("audio", clip) for clip in clips]
    fields = [("count", np.int64), ("rate", np.float64)]
    return np.array([(f.count, f.rate) for f in found], fields)


@pytest.mark.parametrize("positions", [1, 7, 16, 50, 100, 750, 1500, 3000])
def test_windows_of_every_length_are_planned_and_encoded(positions, make_sound):
    window = positions * STRIDE / 16_000
    ends = [window - 0.24, window - 0.02, window - 0.01, window, window + 0.01, 2.3 * window]
    rates = [16_000, 8_000, 44_100]
    seconds = [0.02, 0.3, 31.7, *(s for s in ends if s >= 0.02)]
    clips = [make_sound(s, rate=rates[n % 3]) for n, s in enumerate(seconds)]
    config = small(positions)
    items = [WhisperEncoder.preprocess(config, clip) for clip in clips]
    decoded = [(n, *grid) for n, item in enumerate(items)
               for grid in WhisperEncoder.grids(config, item)]  # fmt: skip
    clip, grids = WhisperEncoder.grids_of(config, facts_array(clips))
    assert [(n, *grid) for n, grid in zip(clip.tolist(), grids.tolist(), strict=True)] == decoded
    torch.manual_seed(0)
    encoder = WhisperEncoder(**config).eval()
    torch.nn.init.normal_(encoder.embed_positions)
    batch = WhisperEncoder.collate(items)
    parts = WhisperEncoder.split(config, *batch.values())
    with torch.no_grad():
        together = encoder(*batch.values()).items()
        alone = [encoder(*part).items() for part in parts]
    frames = [int(n) for n in batch["audio_frames"]]
    assert max(frames) <= positions
    for features, (mel, _), [one], n in zip(together, parts, alone, frames, strict=True):
        assert len(features) == n
        assert mel.shape[2] == 2 * min(-(-n // QUANTUM) * QUANTUM, positions)
        torch.testing.assert_close(features, one, atol=1e-5, rtol=1e-4)


def test_three_minutes_pass_the_model_and_can_be_cut(make_model, specs, make_sound):
    model, processor = make_model(audio=specs.audio)
    clips = [make_sound(s) for s in (29.77, 185.0)]
    talk = [user(*[audio(clip) for clip in clips], "What?"), assistant("A tone.")]
    encoded = processor.encode(talk)
    tokens, frames = processor.media_lengths("audio", facts_array(clips))
    assert tokens.tolist() == [373, 6 * 375 + 63]  # 1489, and six windows and 250, in fours
    assert frames.tolist() == [1489, 6 * 1500 + 250]
    with torch.no_grad():
        assert model(**processor.pack([encoded])).loss.isfinite()
    first, second = spans(processor.modalities["audio"], encoded, encoded.media["audio"])
    piece = cut(processor, encoded, 0, second[1])
    assert len(piece) == second[0] and len(piece.media["audio"]) == 1
    assert first[1] < len(piece)


def write_whisper(folder, **extractor):
    config = WhisperConfig(
        d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_mel_bins=80,
        vocab_size=64, max_source_positions=100, max_target_positions=16, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=3, activation_function="relu",
    )  # fmt: skip
    torch.manual_seed(0)
    model = WhisperModel(config).eval()
    model.save_pretrained(folder)
    WhisperFeatureExtractor(**extractor).save_pretrained(folder)
    return model


def attach(make_model, folder):
    encoder = {"kind": "whisper", "weights": str(folder)}
    return make_model(audio={"encoder": encoder, "projector": {"kind": "frame_concat_mlp"}})


def test_whispers_features_are_transformers(make_model, tmp_path):
    reference = write_whisper(tmp_path)
    model, _ = attach(make_model, tmp_path)
    mel = torch.randn(2, 80, 200)
    with torch.no_grad():
        expected = reference.encoder(mel).last_hidden_state
        found = torch.stack(model.encoders["audio"](mel, torch.tensor([100, 100])).items())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "extractor",
    [{"sampling_rate": 8_000}, {"n_fft": 512}, {"hop_length": 80}, {"feature_size": 128}],
)
def test_a_whisper_that_hears_otherwise_is_refused(extractor, make_model, tmp_path):
    write_whisper(tmp_path, **extractor)
    [(name, value)] = extractor.items()
    with pytest.raises(ValueError, match=f"has {name} = {value}"):
        attach(make_model, tmp_path)


@pytest.mark.parametrize("change", ["lacks", "holds"])
def test_a_whisper_with_other_tensors_than_its_config_is_refused(change, make_model, tmp_path):
    write_whisper(tmp_path)
    if change == "lacks":
        state = load_file(tmp_path / "model.safetensors")
        del state["encoder.layers.1.fc1.weight"]
        save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    else:
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(config | {"encoder_layers": 1}))
    with pytest.raises(ValueError, match=rf"{change} \d+ tensors of .*encoder"):
        attach(make_model, tmp_path)
