"""A model that speaks: its codec, its checkpoints, what it says, and the sound of it."""

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from omni import OmniForConditionalGeneration, OmniProcessor
from omni.entry import EntryError
from omni.generation import telling
from omni.generation.settings import Completion
from omni.generation.sound import Stream, Voice
from omni.generation.speech import Speaking, SpeechError, choose, say
from omni.heads.mel import SAMPLES_PER_CODE
from omni.media.decode import MediaError
from omni.processing.messages import MessageError, assistant, audio, user
from omni.processing.processor import IGNORE_INDEX
from omni.serve import chat

TALKS = [[user("Say: one")], [user("Say something longer, please.")], [user("x")]]
TEXTS = ["one", "two three", "y"]


@pytest.fixture(scope="module")
def speaker(make_speaker):
    return make_speaker()


@pytest.fixture(scope="module")
def folder(speaker, tmp_path_factory):
    path = tmp_path_factory.mktemp("speaker")
    for part in speaker:
        part.save_pretrained(path)
    return path


def test_answers_hold_frames_and_an_end(speaker, make_sound):
    _, processor = speaker
    encoded = processor.encode([user("Say"), assistant("one", audio(make_sound(0.3)), "two")])
    token = processor.modalities["speech"]["token_id"]
    spoken = encoded.input_ids == token
    assert spoken.sum() == 5  # 0.3 s: four frames, and the end
    first = int(spoken.nonzero()[0])
    end = processor.tokenizer.eos_token_id
    assert encoded.labels[first] == end  # where the text before it ends
    assert (encoded.labels[first + 1 : first + 5] == IGNORE_INDEX).all()
    assert encoded.labels[first + 5 :].tolist() == [*processor.tokenizer("two")["input_ids"], end]
    begun = processor.begun([user("Say")], "one")
    assert torch.equal(begun.input_ids, encoded.input_ids[:first])


def test_one_frame_is_one_token(speaker, make_sound):
    """Batch 1 of length 1: 80 ms."""
    model, processor = speaker
    batch = processor.pack([processor.encode([user(audio(make_sound(0.08))), assistant("x")])])
    codes = model.codes("speech", dict(batch))
    assert codes.shape == (2, 3) and codes[1].tolist() == [16, 8, 8]
    assert model(**batch).loss.isfinite()
    assert Voice(model).wave(codes[:1]).shape == (SAMPLES_PER_CODE,)


def test_without_a_codec_an_answer_holds_no_sound(omni_pair, make_sound):
    with pytest.raises(MessageError, match=r"message 1: an answer holds audio.*kind: codec"):
        omni_pair[1].encode([user("Say"), assistant(audio(make_sound(0.3)))])


def test_the_processor_hears_with_what_it_is_told_to(make_model, specs, make_sound):
    _, processor = make_model(audio=specs.audio, speech=specs.codec)
    talk = [user(audio(make_sound(0.5))), assistant("x")]
    assert processor.hears == "speech" and [*processor.encode(talk).media] == ["speech"]
    processor.hears = "audio"
    assert [*processor.encode(talk).media] == ["audio"]
    with pytest.raises(MessageError, match="no codec"):
        processor.encode([user("x"), assistant(audio(make_sound(0.5)))])


def test_a_checkpoint_has_codec_and_heads(speaker, folder):
    model, _ = speaker
    loaded = OmniForConditionalGeneration.from_pretrained(folder).eval()
    again = OmniProcessor.from_pretrained(folder)
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert again.hears == "speech" and loaded.config.heads == model.config.heads
    said = [say(m, p, TALKS[:1], TEXTS[:1])[0].codes for m, p in (speaker, (loaded, again))]
    assert torch.equal(*said)
    sketch = OmniForConditionalGeneration.sketch(str(folder))
    assert {n: p.shape for n, p in sketch.named_parameters()} == {
        n: p.shape for n, p in model.named_parameters()
    }


@pytest.mark.parametrize(("spec", "reason"), [
    ({"head": {"kind": "depth"}, "encoder": {}}, "takes no 'encoder'"),
    ({"head": {"kind": "depth"}}, "a head of kind 'depth' already"),
    ("codec", "makes codes already; a model has one codec"),
])  # fmt: skip
def test_what_is_there_already_is_refused(make_speaker, specs, spec, reason):
    model, processor = make_speaker("depth")
    with pytest.raises(EntryError, match=reason):
        model.attach("more", specs.codec if spec == "codec" else spec, processor)
    assert [*model.heads] == ["the_depth"] and [*model.encoders] == ["speech"]


def test_a_head_without_a_codec_is_refused(make_model):
    model, processor = make_model()
    with pytest.raises(EntryError, match="none is attached"):
        model.attach("talk", {"head": {"kind": "depth"}}, processor)


@pytest.mark.parametrize("projector", ["linear", "frame_concat_mlp"])
def test_codes_have_a_projector_of_their_own(make_model, specs, projector):
    with pytest.raises(EntryError, match="use codes"):
        make_model(speech={**specs.codec, "projector": {"kind": projector}})
    with pytest.raises(EntryError, match="is not for the features of 'whisper'"):
        make_model(audio={**specs.audio, "projector": {"kind": "codes"}})


@pytest.mark.parametrize(("option", "value"), [
    ("books", []), ("books", [1]), ("books", "many"), ("hidden", -1), ("decay", 1.5),
])  # fmt: skip
def test_a_codec_that_cannot_be_is_refused(make_model, specs, option, value):
    encoder = {**specs.codec["encoder"], option: value}
    with pytest.raises(EntryError, match=option):
        make_model(speech={**specs.codec, "encoder": encoder})


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_who_has_finished_changes_no_neighbour(speaker, temperature):
    """What one says is what it says alone, though the others end before or after it."""
    model, processor = speaker
    how = Speaking(temperature=temperature)
    ends = model.heads["the_depth"].heads[0].weight
    before = ends.detach().clone()
    try:
        with torch.no_grad():
            if temperature:
                ends.zero_()  # every code alike, the end too
        together = say(model, processor, TALKS, TEXTS, how)
        alone = [say(model, processor, [talk], [text], how)[0]
                 for talk, text in zip(TALKS, TEXTS, strict=True)]  # fmt: skip
    finally:
        ends.data.copy_(before)
    assert [one.finish for one in together] == [one.finish for one in alone]
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one.codes, other.codes)
        assert (one.codes < torch.tensor([16, 8, 8])).all()


def test_speech_ends_where_the_head_says_so_or_at_its_most_frames(speaker):
    model, processor = speaker
    head = model.heads["the_depth"]
    assert say(model, processor, TALKS, TEXTS, Speaking(3))[0].codes.shape == (3, 3)
    whole = say(model, processor, TALKS, TEXTS)
    assert all(len(one.codes) == head.max_frames for one in whole if one.finish == "length")
    rows = head.heads[0].weight
    before = rows.detach().clone()
    try:
        hidden = torch.ones(1, 32)
        with torch.no_grad():
            given = head.layers[0](hidden, [])
            given = head.layers[1](given, [])
            rows.zero_()
            rows[-1] = given[0]
        codes = choose(head, model.projectors["speech"], (16, 8, 8), hidden)
        assert codes[0, 0] == 16 and (codes[0, 1:] < 8).all()
    finally:
        rows.data.copy_(before)


@pytest.mark.parametrize("text", ["", "...", "?! -"])
def test_a_text_without_a_word_is_not_said(speaker, text):
    with pytest.raises(SpeechError, match="no word"):
        say(*speaker, TALKS[:1], [text])


@pytest.mark.parametrize("heads", [("flow", "vocoder"), ("vocoder",), ("flow", "hifigan")])
@pytest.mark.parametrize("chunk", [1, 3, 10])
def test_streamed_is_offline(make_speaker, heads, chunk):
    """Through the flow, and through the codec's own decoder."""
    model, _ = make_speaker(*heads)
    voice = Voice(model)
    codes = torch.randint(8, (61, 3), generator=torch.Generator().manual_seed(0))
    whole, stream = voice.wave(codes), Stream(voice)
    streamed = torch.cat([*(stream.push(part) for part in codes.split(chunk)), stream.rest()])
    assert whole.shape == streamed.shape == (61 * SAMPLES_PER_CODE,)
    assert (whole - streamed).abs().max() <= 1e-5 < whole.abs().max()


def test_without_a_vocoder_there_is_griffin_lim(make_speaker):
    model, _ = make_speaker("flow")
    voice = Voice(model)
    wave = voice.wave(torch.zeros(7, 3, dtype=torch.long))
    assert wave.shape == (7 * SAMPLES_PER_CODE,) and wave.isfinite().all()
    assert voice.wave(torch.zeros(0, 3, dtype=torch.long)).shape == (0,)
    with pytest.raises(SpeechError, match="by a vocoder alone"):
        Stream(voice)


@pytest.mark.parametrize("code", [-1, 16])
def test_codes_out_of_range_are_named(speaker, code):
    with pytest.raises(ValueError, match=f"frame 1: book 0 has the codes 0 to 15, not {code}"):
        Voice(speaker[0]).wave(torch.tensor([[0, 0, 0], [code, 0, 0]]))


RATE = 16_000
SOUNDS = {
    "silence": (np.zeros(RATE), RATE, 14),
    "clipped": (np.sign(np.sin(np.arange(RATE) / 9)), RATE, 14),
    "8 kHz": (0.3 * np.sin(np.arange(8_000) / 9), 8_000, 14),
    "five minutes": (0.3 * np.sin(np.arange(300 * 8_000) / 9), 8_000, 3751),
    "one sample": (np.ones(1), RATE, 2),
}


@pytest.mark.parametrize("kind", SOUNDS)
def test_any_sound_is_codes(speaker, kind, tmp_path):
    model, processor = speaker
    wave, rate, frames = SOUNDS[kind]
    soundfile.write(tmp_path / "x.wav", wave, rate)
    encoded = processor.encode([user(audio(tmp_path / "x.wav")), assistant("x")])
    batch = processor.pack([encoded])
    with torch.no_grad():
        codes = model.codes("speech", batch)
    assert codes.shape == (frames, 3)
    assert codes[-1].tolist() == [16, 8, 8] and (codes[:-1] < torch.tensor([16, 8, 8])).all()


@pytest.mark.parametrize("wave", [np.full(9, np.nan), np.zeros(0), np.zeros(301 * RATE)],
                         ids=["nan", "empty", "too long"])  # fmt: skip
def test_what_is_no_sound_is_refused(speaker, wave):
    with pytest.raises(MediaError):
        speaker[1].encode([user(audio(wave)), assistant("x")])


def written(text):
    return Completion(text, torch.tensor([5]), torch.zeros(1), "stop")


def test_chat_writes_a_spoken_answer(folder, tmp_path, monkeypatch):
    texts = iter(["one two", ""])
    monkeypatch.setattr(telling, "complete", lambda *_: [written(next(texts))])
    path = tmp_path / "said.wav"
    result = CliRunner().invoke(chat.app, [str(folder), "Say it", "--speak", str(path)])
    assert result.exit_code == 0, result.output
    wave, rate = soundfile.read(path)
    assert rate == RATE and len(wave) % SAMPLES_PER_CODE == 0 and len(wave)
    assert f"{path}: {len(wave) / rate:.1f} s" in result.stdout


@pytest.mark.parametrize("case", ["no word", "no folder", "no head"])
def test_chat_says_why_nothing_is_spoken(case, folder, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(telling, "complete", lambda *_: [written("...")])
    checkpoint = tiny_checkpoint if case == "no head" else folder
    path = tmp_path / "gone" / "x.wav" if case == "no folder" else tmp_path / "x.wav"
    result = CliRunner().invoke(chat.app, [str(checkpoint), "Hi", "--speak", str(path)])
    reason = {"no word": "there is no word in the answer", "no folder": "there is no such folder",
              "no head": "cannot speak"}[case]  # fmt: skip
    assert result.exit_code == 2 and reason in result.stderr
    assert not path.exists()
