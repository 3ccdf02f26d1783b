"""transformers' audio towers: heard as by their own library, of every length, alone or together."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from omni import OmniForConditionalGeneration, OmniProcessor
from omni.encoders import build_encoder
from omni.encoders.hearing import FAMILIES, RATE
from omni.encoders.transformers_audio import TransformersAudioEncoder
from omni.entry import EntryError
from omni.model.forward import load_text_tokenizer
from omni.processing.messages import assistant, audio, user
from stages.objectives.task import Task

SPEECH = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
          "intermediate_size": 24}  # fmt: skip
WAVES = {**SPEECH, "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 5,
         "num_conv_pos_embedding_groups": 2}  # fmt: skip
LAYER = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
QWEN = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 24,
        "num_mel_bins": 16}  # fmt: skip
TOWERS = {
    "wav2vec2 group": {"model_type": "wav2vec2", **WAVES},
    "wav2vec2 layer": {"model_type": "wav2vec2", **WAVES, **LAYER},
    "hubert group": {"model_type": "hubert", **WAVES},
    "hubert layer": {"model_type": "hubert", **WAVES, **LAYER},
    "wav2vec2-bert": {"model_type": "wav2vec2-bert", **SPEECH, "feature_projection_input_dim": 16},
    "qwen2_audio": {"model_type": "qwen2_audio_encoder", **QWEN},
}
PROJECTOR = {"kind": "conv_gmlp", "stride": 2}


@pytest.fixture(params=TOWERS)
def model_config(request):
    return TOWERS[request.param]


def described(model_config, **options):
    spec = {"model_config": model_config, **options}
    return {"kind": "transformers_audio", **TransformersAudioEncoder.describe(None, **spec)}


def built(config):
    torch.manual_seed(0)
    encoder = build_encoder(config).eval()
    for parameter in encoder.parameters():  # also those that start at zero
        torch.nn.init.normal_(parameter, std=0.2)
    return encoder


def noise(samples, seed=0):
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32) * 0.1


def encode(encoder, *clips):
    items = [encoder.preprocess(encoder.spec, clip) for clip in clips]
    with torch.no_grad():
        return encoder(*encoder.collate(items).values()).items()


def reference(model, config, wave):
    """Run the library's extractor and class on one clip as its authors do."""
    kind, options = config["model_type"], {"sampling_rate": RATE, "return_tensors": "pt"}
    with torch.no_grad():
        if kind in ("wav2vec2", "hubert"):
            return model(**transformers.Wav2Vec2FeatureExtractor()(wave, **options))[0][0]
        if kind == "wav2vec2-bert":
            extract = transformers.SeamlessM4TFeatureExtractor(feature_size=8, num_mel_bins=8)
            given = extract(wave, **options)
            found = model(**given).last_hidden_state
            return found[0, : int(given["attention_mask"].sum())]
        extract = transformers.WhisperFeatureExtractor(feature_size=16)
        given = extract(wave, return_attention_mask=True, **options)
        within, length = model._get_feat_extract_output_lengths(given["attention_mask"].sum(-1))
        heard = torch.where(torch.arange(1500) < within, 0.0, -torch.inf)
        mask = heard.expand(1, 1, 1500, 1500)
        return model(given["input_features"], mask).last_hidden_state[0, : int(length)]


def test_every_family_is_tested():
    assert {tower["model_type"] for tower in TOWERS.values()} == set(FAMILIES)


@pytest.mark.parametrize("samples", [16_000, 20_321, 41_119])
def test_its_features_are_the_librarys(model_config, samples):
    encoder = built(described(model_config))
    expected = reference(encoder.model, model_config, noise(samples))
    [found] = encode(encoder, noise(samples))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_whole_window_is_the_librarys():
    encoder = built(described(TOWERS["qwen2_audio"]))
    for samples in (480_000, 479_700):
        expected = reference(encoder.model, TOWERS["qwen2_audio"], noise(samples))
        [found] = encode(encoder, noise(samples))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_lengths_are_the_models_own(model_config):
    config = described(model_config)
    model = build_encoder(config).model
    samples = np.random.default_rng(0).integers(RATE, 30 * RATE + 1, 100_000)
    facts = np.array([(n, RATE) for n in samples], [("count", np.int64), ("rate", np.float64)])
    clip, grids = TransformersAudioEncoder.grids_of(config, facts)
    given = torch.from_numpy(samples)
    if model_config["model_type"] == "wav2vec2-bert":
        given = (1 + (given - 400) // 160) // 2
    elif model_config["model_type"] == "qwen2_audio_encoder":
        given = (given + 159) // 160
    expected = model._get_feat_extract_output_lengths(given)
    expected = expected[1] if isinstance(expected, tuple) else expected
    assert np.array_equal(clip, np.arange(len(samples)))
    assert np.array_equal(grids[:, 0], expected.numpy())


def test_what_is_planned_is_encoded_alone_and_in_a_batch(model_config):
    config = described(model_config, window_seconds=1.0)
    encoder = built(config)
    clips = [noise(n, n) for n in (1, 300, 399, 400, 559, 560, 9_000, 16_000, 16_001, 35_117)]
    facts = np.array([(len(c), RATE) for c in clips], [("count", np.int64), ("rate", np.float64)])
    clip, grids = encoder.grids_of(config, facts)
    items = [encoder.preprocess(config, c) for c in clips]
    found = [(n, *grid) for n, item in enumerate(items) for grid in encoder.grids(config, item)]
    assert [(n, *g) for n, g in zip(clip.tolist(), grids.tolist(), strict=True)] == found
    batch = encoder.collate(items)
    together = encode(encoder, *clips)
    assert [len(one) for one in together] == grids[:, 0].tolist() and grids.min() >= 1
    parts = encoder.split(config, *batch.values())
    with torch.no_grad():
        alone = [encoder(*part).values for part in parts]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    stored = [window for item in items for window in encoder.split(config, *item.values())]
    assert all(torch.equal(a, b) for p, q in zip(parts, stored, strict=True)
               for a, b in zip(p, q, strict=True))  # fmt: skip


def test_windows_are_clips_of_their_own(model_config):
    encoder = built(described(model_config, window_seconds=0.5))
    wave = noise(20_000)
    alone = encode(encoder, *np.split(wave, [8_000, 16_000]))
    for window, expected in zip(encode(encoder, wave), alone, strict=True):
        torch.testing.assert_close(window, expected, atol=1e-5, rtol=1e-5)


def test_features_do_not_depend_on_chance(model_config):
    encoder = built(described(model_config)).train()
    [first], [second] = encode(encoder, noise(9_000)), encode(encoder, noise(9_000))
    assert torch.equal(first, second)
    item = encoder.preprocess(encoder.spec, noise(9_000))
    encoder(*item.values()).values.square().sum().backward()
    without = [n for n, p in encoder.named_parameters() if p.requires_grad and p.grad is None]
    assert not without


def test_it_runs_without_memory(model_config):
    """On torch's meta device: what the operations of a step are counted by."""
    config = described(model_config)
    assert config == json.loads(json.dumps(config))
    item = TransformersAudioEncoder.preprocess(config, noise(9_000))
    with torch.device("meta"):
        sketch = build_encoder(config).eval()
    found = sketch(item["audio_values"].to("meta"), item["audio_lengths"])
    assert found.grids.tolist() == [list(g) for g in TransformersAudioEncoder.grids(config, item)]
    assert found.values.shape == (found.grids.sum(), sketch.width)


@pytest.mark.parametrize("objective", ["align", "sft"])
def test_it_trains_alike_alone_and_packed(objective, model_config, make_model):
    encoder = {"kind": "transformers_audio", "model_config": model_config, "window_seconds": 1.0}
    model, processor = make_model(audio={"encoder": encoder, "projector": PROJECTOR})
    talks = [[user(audio(noise(n)), "What?"), assistant(word)]
             for n, word in ((9_000, "lion"), (20_100, "no"), (4_000, "yes"))]  # fmt: skip
    encoded = [processor.encode(talk) for talk in talks]
    batch = processor.pack(encoded)
    if objective == "sft":
        alone = [model(**processor.pack([one])).token_losses for one in encoded]
        torch.testing.assert_close(model(**batch).token_losses, torch.cat(alone),
                                   atol=1e-5, rtol=1e-4)  # fmt: skip
    Task(model, objective).train()(batch, torch.tensor(9.0)).total.backward()
    trained = [p for p in model.encoders.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)


def write(folder, model_config):
    """Save a model that holds the tower, as its authors publish it; return the tower."""
    torch.manual_seed(0)
    kind, config = model_config["model_type"], {**model_config, "vocab_size": 8}
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=False)
    if kind == "qwen2_audio_encoder":
        names = ("hidden_size", "intermediate_size", "vocab_size", "num_hidden_layers",
                 "num_attention_heads", "num_key_value_heads")  # fmt: skip
        text = {"model_type": "qwen2", **dict.fromkeys(names, 8)}
        whole = transformers.Qwen2AudioConfig(audio_config=model_config, text_config=text)
        model = transformers.Qwen2AudioForConditionalGeneration(whole)
        extractor = transformers.WhisperFeatureExtractor(feature_size=16)
        tower = model.model.audio_tower
    else:
        whole = transformers.AutoConfig.for_model(**config)
        model = transformers.AutoModelForCTC.from_config(whole)
        tower = getattr(model, model.base_model_prefix)
        if kind == "wav2vec2-bert":
            extractor = transformers.SeamlessM4TFeatureExtractor(feature_size=8, num_mel_bins=8)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return tower.eval()


def attach(make_model, folder, **options):
    encoder = {"kind": "transformers_audio", "weights": str(folder), **options}
    return make_model(audio={"encoder": encoder, "projector": PROJECTOR})


def test_a_pretrained_tower_is_attached_and_reloaded(model_config, make_model, tmp_path):
    tower = write(tmp_path / "author", model_config)
    model, processor = attach(make_model, tmp_path / "author")
    encoder = model.encoders["audio"]
    own = encoder.model.state_dict()
    theirs = {k: v for k, v in tower.state_dict().items() if k != "masked_spec_embed"}
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[name], theirs[name]) for name in own)
    assert encoder.spec["window_seconds"] == 30.0
    sketch = OmniForConditionalGeneration.sketch("tiny:llama")
    spec = {"kind": "transformers_audio", "weights": str(tmp_path / "author")}
    sketch.attach("audio", {"encoder": spec, "projector": PROJECTOR},
                  OmniProcessor(load_text_tokenizer("tiny:llama")))  # fmt: skip
    shapes, real = ({k: v.shape for k, v in m.encoders.state_dict().items()}
                    for m in (sketch, model))  # fmt: skip
    assert shapes == real
    if model_config["model_type"] in ("wav2vec2", "hubert"):  # said to be heard as it is
        item = encoder.preprocess(encoder.spec, noise(9_000))
        assert np.array_equal(item["audio_values"][0, 0], noise(9_000))
    model.save_pretrained(tmp_path / "ours")
    processor.save_pretrained(tmp_path / "ours")
    loaded = OmniForConditionalGeneration.from_pretrained(tmp_path / "ours").eval()
    [expected], [found] = (encode(m.encoders["audio"], noise(9_000)) for m in (model, loaded))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("change", ["lacks", "holds"])
def test_a_tower_with_other_tensors_than_its_config_is_refused(
    change, model_config, make_model, tmp_path
):
    write(tmp_path, model_config)
    if change == "lacks":
        state = load_file(tmp_path / "model.safetensors")
        del state[next(name for name in state if "layers.1." in name and "norm" in name)]
        save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    else:
        config = json.loads((tmp_path / "config.json").read_text())
        part = config.get("audio_config", config)
        part["encoder_layers" if "encoder_layers" in part else "num_hidden_layers"] = 1
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"{change} \d+ tensors"):
        attach(make_model, tmp_path)


@pytest.mark.parametrize(
    ("tower", "setting"),
    [
        ("wav2vec2 group", {"sampling_rate": 8_000}),
        ("wav2vec2-bert", {"stride": 1}),
        ("wav2vec2-bert", {"num_mel_bins": 80}),
        ("qwen2_audio", {"hop_length": 80}),
        ("qwen2_audio", {"feature_size": 128}),
    ],
)
def test_a_tower_that_hears_otherwise_is_refused(tower, setting, make_model, tmp_path):
    write(tmp_path, TOWERS[tower])
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | setting))
    [(name, value)] = setting.items()
    with pytest.raises(ValueError, match=f"has {name} = {value}"):
        attach(make_model, tmp_path)


@pytest.mark.parametrize(
    ("config", "culprit"),
    [
        ({"model_config": {"model_type": "hubrt"}}, "'hubrt'.*hubert"),
        ({"model_config": {"model_type": "bert"}}, "knows no model_type 'bert'"),
        ({"model_config": {**TOWERS["wav2vec2 group"], "add_adapter": True}}, "adapter"),
        ({"window_seconds": 0}, "window_seconds is from 0.025 to inf, not 0"),
        ({"window_seconds": "30"}, "window_seconds"),
        ({"model_config": TOWERS["qwen2_audio"], "window_seconds": 31}, "to 30, not 31"),
    ],
)
def test_what_does_not_work_is_refused(config, culprit, make_model):
    encoder = {"kind": "transformers_audio", "model_config": TOWERS["wav2vec2 group"], **config}
    with pytest.raises(EntryError, match=culprit):
        make_model(audio={"encoder": encoder, "projector": PROJECTOR})
