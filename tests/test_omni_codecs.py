"""Codecs that were trained elsewhere: their codes, their sound, and models that speak them."""

import copy
import math

import pytest
import torch
from transformers import AutoConfig, AutoModel

from omni.entry import EntryError
from omni.generation.sound import Stream, Voice
from omni.generation.speech import SpeechError, say
from omni.load import load
from omni.processing.messages import assistant, audio, user
from stages.doctor.comparison import packed_equals_unpacked
from stages.objectives import objective_class

KINDS = ("mimi", "encodec", "dac")
TALKS = [[user("Say: one")], [user("Say: two three")]]


@pytest.fixture(scope="module", params=KINDS)
def speaker(request, make_model, specs):
    return with_head(make_model(speech=specs.neural[request.param]))


def with_head(made):
    model, processor = made
    model.attach("talk", {"head": {"kind": "depth", "layers": 1, "max_frames": 9}}, processor)
    return model.eval(), processor


@pytest.mark.parametrize("kind", KINDS)
def test_codes_and_sound_are_those_of_the_folder(kind, make_model, specs, make_sound, tmp_path):
    spec = copy.deepcopy(specs.neural[kind])
    torch.manual_seed(1)
    theirs = AutoModel.from_config(AutoConfig.for_model(**spec["encoder"].pop("model_config")))
    for name, buffer in theirs.named_buffers():
        if name.endswith(("embed", "embed_sum")):  # zeros, but for training
            buffer.normal_()
    theirs.eval().save_pretrained(tmp_path)
    spec["encoder"]["weights"] = str(tmp_path)
    model, _ = make_model(speech=spec)
    codec, config = model.encoders["speech"], model.config.modalities["speech"]["encoder"]
    item = codec.preprocess(config, make_sound(0.5))
    codes = codec(item["code_wave"], item["code_frames"]).values
    most = {"bandwidth": 24.0} if kind == "encodec" else {}
    with torch.no_grad():
        expected = theirs.encode(item["code_wave"][:, None], **most).audio_codes
    expected = expected[0] if kind == "encodec" else expected
    assert torch.equal(codes[:-1], expected[0, :3].T) and codes[-1].tolist() == [16] * 3
    assert len(codes.unique()) > 3
    decode = {"audio_codes": codes[:-1].T[None]}
    if kind == "encodec":
        decode = {"audio_codes": codes[:-1].T[None, None], "audio_scales": [None]}
    with torch.no_grad():
        sound = theirs.decode(**decode).audio_values.flatten()
    assert torch.equal(codec.wave(codes[:-1]), sound[: (len(codes) - 1) * codec.hop])
    seconds = len(Voice(model).wave(codes[:-1])) / 16_000
    assert seconds == pytest.approx(len(codes[:-1]) * codec.frame_seconds(config), abs=1e-3)


@pytest.mark.parametrize("chunk", [1, 3, 10])
def test_streamed_is_offline(speaker, chunk):
    voice = Voice(speaker[0])
    codes = torch.randint(16, (31, 3), generator=torch.Generator().manual_seed(0))
    if not voice.codec.causal:
        with pytest.raises(SpeechError, match="all codes at once"):
            Stream(voice)
        return
    whole, stream = voice.wave(codes), Stream(voice)
    streamed = torch.cat([*(stream.push(part) for part in codes.split(chunk)), stream.rest()])
    assert whole.shape == streamed.shape
    assert (whole - streamed).abs().max() <= 1e-5 < whole.abs().max()


def test_it_is_spoken_saved_and_taught_like_our_own(speaker, make_sound, tmp_path):
    model, processor = speaker
    said = say(model, processor, TALKS, ["one", "two three"])
    alone = say(model, processor, TALKS[1:], ["two three"])
    assert torch.equal(said[1].codes, alone[0].codes) and said[1].codes.shape[1] == 3
    for part in speaker:
        part.save_pretrained(tmp_path)
    again, _ = load(tmp_path)
    assert torch.equal(Voice(again).wave(said[1].codes), Voice(model).wave(said[1].codes))
    talks = [[user("Say"), assistant("one", audio(make_sound(n / 9)), "two")] for n in (1, 4)]
    encoded = [processor.encode(talk) for talk in talks]
    assert packed_equals_unpacked(model, processor, encoded, objective="speak").ok


@pytest.mark.parametrize("objective", ["codec", "flow", "vocoder"])
def test_what_trains_or_betters_codecs_is_refused(make_model, specs, objective):
    model, processor = make_model(speech=specs.neural["mimi"])
    if objective != "codec":
        with pytest.raises(EntryError, match=f"no use for a head '{objective}'"):
            model.attach("more", {"head": {"kind": objective}}, processor)
        return
    with pytest.raises(EntryError, match="makes its own sound, and is not trained here"):
        objective_class(objective).check(model)


@pytest.mark.parametrize(("kind", "change", "words"), [
    ("mimi", {"books": 5}, "has 4 books, not 5"),
    ("mimi", {"books": 0}, "whole number from 1"),
    ("encodec", {"model_config": {"model_type": "encodec", "normalize": True}}, "scales clips"),
    ("dac", {"model_config": {"model_type": "snac"}}, "knows no model_type 'snac'"),
])  # fmt: skip
def test_what_cannot_be_is_named(make_model, specs, kind, change, words):
    spec = copy.deepcopy(specs.neural[kind])
    spec["encoder"] |= change
    with pytest.raises(EntryError, match=words):
        make_model(speech=spec)


@pytest.mark.parametrize("code", [-1, 16])
def test_codes_out_of_range_are_named(speaker, code):
    with pytest.raises(ValueError, match=f"frame 1: book 0 has the codes 0 to 15, not {code}"):
        Voice(speaker[0]).wave(torch.tensor([[0, 0, 0], [code, 0, 0]]))


def test_a_clip_is_heard_whole_whatever_its_rate_and_length(speaker, make_sound):
    model, _ = speaker
    codec, config = model.encoders["speech"], model.config.modalities["speech"]["encoder"]
    for seconds, rate in ((61.3, 8_000), (300, 8_000), (0.001, 16_000)):
        tensors = codec.preprocess(config, make_sound(seconds, rate=rate))
        frames = math.ceil(round(seconds * rate) * codec.rate / rate / codec.hop)
        assert sum(n for (n,) in codec.grids(config, tensors)) == frames + 1
