"""Sound out: texts that are read out, and answers of a chat that are spoken."""

import base64
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import httpx
import numpy as np
import openai
import pytest
import soundfile
import torch

from omni.generation.answer import answer
from omni.generation.settings import Generation
from omni.generation.sound import Voice
from omni.generation.speech import Speaking, say
from omni.media.resample import resample
from omni.processing.asking import ASK_IMITATE, ASK_SAY
from omni.processing.messages import audio, user
from omni.serve.bench.running import running
from omni.serve.limits import RequestLimits
from omni.serve.speech.sounds import Pcm
from omni.serve.voice import read_voices

LIMITS = RequestLimits(max_characters=200)
HI = [{"role": "user", "content": "Hi, what is it?"}]
ASK = {"model": "tiny", "messages": HI, "max_tokens": 8, "modalities": ["text", "audio"]}
PCM = {"audio": {"format": "pcm16", "voice": "default"}}


@pytest.fixture(scope="module", params=["vocoder", "without"])
def speaker(request, make_speaker):
    """A model that says words, through a vocoder and through Griffin-Lim."""
    model, processor = make_speaker(*(() if request.param == "vocoder" else ("depth",)))
    torch.manual_seed(0)
    rows = len(processor.tokenizer)
    model.language_model.lm_head.weight = torch.nn.Parameter(torch.randn(rows, 32))
    return model, processor


@pytest.fixture(scope="module")
def served(speaker):
    with running(speaker, LIMITS) as server:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
        yield SimpleNamespace(client=client, url=server.url, engine=server.engine)


def until(what):
    for _ in range(3000):
        if what():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to be")


def spoken(speaker, talk, text, how=Speaking()):  # noqa: B008 - frozen
    """Return (wave, finish) of the model alone."""
    [said] = say(*speaker, [talk], [text], how)
    return Voice(speaker[0]).wave(said.codes).numpy(), said


def samples(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, "<i2") / 32_767


def close(found, wanted):
    wanted = resample(wanted.clip(-1, 1), 16_000, 24_000)
    assert len(found) == len(wanted) and np.abs(found - wanted).max() < 2e-3


@pytest.mark.parametrize("how", [Speaking(), Speaking(temperature=1.0, seed=5)], ids=["0", "1"])
def test_a_text_is_read_out_as_the_model_alone_does(served, speaker, how):
    wanted, _ = spoken(speaker, [user(ASK_SAY.format(text="one two"))], "one two", how)
    drawn = {"temperature": how.temperature, "seed": how.seed}
    create = partial(
        served.client.audio.speech.create, model="tiny", input="one two", voice="default",
        extra_body=drawn,
    )  # fmt: skip
    whole = create()
    assert whole.response.headers["content-type"] == "audio/wav"
    wave, rate = soundfile.read(io.BytesIO(whole.content))
    assert rate == 16_000 and len(wave) == len(wanted) > 0
    assert np.abs(wave - wanted / max(1, np.abs(wanted).max())).max() < 1e-3
    close(samples(create(response_format="pcm").content), wanted)


def test_a_text_is_read_out_in_the_voice_of_a_clip(speaker, make_sound):
    clip = make_sound(0.4, 300)
    wanted, _ = spoken(speaker, [user(audio(clip), ASK_IMITATE.format(text="one two"))], "one two")
    own, _ = spoken(speaker, [user(ASK_SAY.format(text="one two"))], "one two")
    with running(speaker, RequestLimits(voices={"ann": clip})) as server:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
        create = partial(client.audio.speech.create, model="tiny", input="one two",
                         response_format="pcm")  # fmt: skip
        close(samples(create(voice="ann").content), wanted)
        close(samples(create(voice="default").content), own)
        with pytest.raises(openai.BadRequestError, match="must be 'default' or 'ann', not 'bob'"):
            create(voice="bob")


def test_a_folder_of_voices_is_read_or_what_is_wrong_is_named(tmp_path, make_sound):
    with pytest.raises(ValueError, match="holds no clip"):
        read_voices(tmp_path)
    (tmp_path / "ann.wav").write_bytes(make_sound(0.2, 300))
    (tmp_path / "bob.flac").write_bytes(make_sound(0.2, 500))
    assert [*read_voices(tmp_path)] == ["ann", "bob"]
    wrong = [("text.wav", b"text", "text.wav: "), ("ann.mp3", make_sound(0.2), "'ann' is there"),
             ("default.wav", make_sound(0.2), "'default' is there already")]  # fmt: skip
    for name, data, words in wrong:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=words):
            read_voices(tmp_path)
        (tmp_path / name).unlink()


def test_an_answer_is_written_and_said(served, speaker):
    talk, how = [user("Hi, what is it?")], Generation(8)
    text = answer(*speaker, [talk], how)[0]
    wanted, said = spoken(speaker, talk, text)
    ask = served.client.chat.completions.create
    for form in ("wav", "pcm16"):
        found = ask(**ASK, audio={"format": form, "voice": "default"})
        sound = found.choices[0].message.audio
        assert (sound.transcript, found.choices[0].message.content) == (text, None)
        data = base64.b64decode(sound.data)
        if form == "wav":
            assert len(soundfile.read(io.BytesIO(data))[0]) == len(wanted)
        else:
            close(samples(data), wanted)
        assert found.choices[0].finish_reason == "length"
        assert found.usage.completion_tokens_details.audio_tokens == len(said.codes)
        assert found.usage.completion_tokens == 8 + len(said.codes)
    chunks = list(ask(**ASK, **PCM, stream=True, stream_options={"include_usage": True}))
    deltas = [chunk.choices[0].delta.audio for chunk in chunks if chunk.choices]
    assert "".join(delta.transcript or "" for delta in deltas) == text
    pieces = [base64.b64decode(delta.data) for delta in deltas if delta.data]
    close(samples(b"".join(pieces)), wanted)
    if speaker[0].head_of("vocoder"):
        assert len(pieces) > 1  # it comes while codes are chosen
    assert deltas[-1].expires_at and chunks[-1].usage == found.usage


def test_a_full_line_does_not_cut_an_answer_off(speaker):
    """What is said of it has its turn, though by then as many wait as may."""
    from omni.serve.line import Line
    from omni.serve.metrics import Metrics
    from omni.serve.ticket import FullError, Ticket

    line = Line(1, Metrics())
    first, second, third = (Ticket(None, "", Speaking(), print, 0.0) for _ in range(3))
    line.add(first)
    with pytest.raises(FullError):
        line.add(second)
    line.add(third, ahead=True)
    assert [*line.waiting] == [third, first]


BAD = {
    "nothing": ({"input": ""}, "input", "1 to 200"),
    "long": ({"input": "x" * 201}, "input", "1 to 200"),
    "no text": ({"input": None}, "input", "missing"),
    "no word": ({"input": "..."}, "input", "no word"),
    "voice": ({"voice": "alloy"}, "voice", "one voice"),
    "mp3": ({"response_format": "mp3"}, "response_format", "wav or pcm, not 'mp3'"),
    "speed": ({"speed": 2}, "speed", "not supported"),
    "instructions": ({"instructions": "Sadly."}, "instructions", "not supported"),
    "events": ({"stream_format": "sse"}, "stream_format", "not supported"),
    "temperature": ({"temperature": -1}, "temperature", "from 0"),
    "seed": ({"seed": -1}, "seed", "from 0"),
    "deadline": ({"deadline": 0}, "deadline", "above 0"),
    "unknown": ({"max_tokens": 3}, "max_tokens", "not known"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("speaker", ["vocoder"], indirect=True)
def test_what_is_wrong_is_named(served, kind):
    fields, place, reason = BAD[kind]
    found = httpx.post(served.url + "/v1/audio/speech", json={"input": "one", **fields})
    error = found.json()["error"]
    assert (found.status_code, error["param"]) == (400, place)
    assert reason in error["message"]


@pytest.mark.parametrize("speaker", ["vocoder"], indirect=True)
def test_what_is_said_of_one_does_not_depend_on_others_nor_ends_them(served, speaker, monkeypatch):
    """A text that breaks the batch costs itself alone; sound that has begun is not begun anew."""
    url = served.url + "/v1/audio/speech"
    wanted = httpx.post(url, json={"input": "one", "response_format": "pcm"}).content
    decoder, passes = speaker[0].get_decoder(), []

    def fail(*given):
        passes.append(1)
        if len(passes) == 7:
            raise RuntimeError("it broke")

    hook = decoder.register_forward_pre_hook(fail)
    body = {"input": "one", "response_format": "pcm"}
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(url, json=body)
    assert len(passes) == 7
    passes.clear()
    found = httpx.post(url, json={"input": "one"})
    assert found.status_code == 500 and "it broke" in found.json()["error"]["message"]
    hook.remove()
    assert httpx.post(url, json=body).content == wanted


@pytest.mark.parametrize("speaker", ["vocoder"], indirect=True)
def test_texts_that_wait_are_said_together(served, speaker):
    ask = partial(httpx.post, served.url + "/v1/audio/speech", timeout=60)
    texts = ("one", "two three", "y")
    alone = [ask(json={"input": text}).content for text in texts]
    gate, rows = threading.Event(), []

    def count(module, args, kwargs):
        gate.wait(20)
        rows.append(len(kwargs["inputs_embeds"]))

    hook = speaker[0].get_decoder().register_forward_pre_hook(count, with_kwargs=True)
    with ThreadPoolExecutor() as threads:
        found = [threads.submit(ask, json={"input": texts[0]})]
        until(lambda: served.engine.running)
        found += [threads.submit(ask, json={"input": text}) for text in texts[1:]]
        until(lambda: served.engine.waiting == 2)
        gate.set()
        together = [one.result().content for one in found]
    hook.remove()
    assert max(rows) == 2
    for one, other in zip(together, alone, strict=True):
        waves = [soundfile.read(io.BytesIO(data))[0] for data in (one, other)]
        assert np.abs(waves[0] - waves[1]).max() < 1e-3


def test_a_model_that_cannot_speak_says_so(talker):
    with running(talker) as server:
        found = httpx.post(server.url + "/v1/audio/speech", json={"input": "one"})
        assert found.status_code == 400 and "cannot speak: it has no head" in found.text


@pytest.mark.parametrize("text", ["...", "<think>a</think>"])
@pytest.mark.parametrize("speaker", ["vocoder"], indirect=True)
def test_an_answer_without_a_word_is_silence(served, text, monkeypatch):
    """And what was thought is not said."""
    decode = type(served.engine.processor.tokenizer).decode
    monkeypatch.setattr(type(served.engine.processor.tokenizer), "decode", lambda *a, **k: text)
    body = ASK | {"audio": {"format": "wav"}}
    found = httpx.post(served.url + "/v1/chat/completions", json=body)
    monkeypatch.setattr(type(served.engine.processor.tokenizer), "decode", decode)
    sound = found.json()["choices"][0]["message"]["audio"]
    assert sound["transcript"] == text.replace("<think>a</think>", "")
    assert len(soundfile.read(io.BytesIO(base64.b64decode(sound["data"])))[0]) == 0


@pytest.mark.parametrize("sizes", [[1] * 60, [7, 100, 0, 33], [400], [0], []])
def test_pieces_of_pcm_are_those_of_the_whole(sizes):
    wave = np.random.default_rng(0).uniform(-1.2, 1.2, sum(sizes)).astype(np.float32)
    pcm, at, sent = Pcm(), 0, b""
    for size in sizes:
        sent += pcm.push(torch.from_numpy(wave[at : at + size]))
        at += size
    sent += pcm.push(torch.zeros(0), last=True)
    whole = Pcm().push(torch.from_numpy(wave), last=True)
    assert len(sent) == 2 * -(-len(wave) * 3 // 2) == len(whole)
    assert np.abs(samples(sent) - samples(whole)).max(initial=0) < 1e-4
    if len(wave):
        raw = resample(wave, 16_000, 24_000).clip(-1, 1)
        assert np.abs(samples(whole) - raw).max() < 1e-4
