"""Sounds in, transcripts out, asked by OpenAI's own client; forms that are none, and limits."""

import json
from types import SimpleNamespace

import httpx
import openai
import pytest

from omni.generation.answer import answer
from omni.generation.settings import Generation
from omni.processing.asking import ASK_TRANSCRIPT
from omni.processing.messages import audio, system, user
from omni.serve.bench.running import running
from omni.serve.limits import RequestLimits
from omni.serve.ticket import Wrote
from omni.serve.transcript import Transcribed, Transcript

LIMITS = RequestLimits(max_body=1 << 20, max_bytes=200_000, max_seconds=2.0, max_characters=100)
PATH = "/v1/audio/transcriptions"


@pytest.fixture(scope="module")
def served(talker):
    with running(talker, LIMITS) as server, httpx.Client(base_url=server.url, timeout=30) as plain:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
        ask = client.audio.transcriptions.create
        yield SimpleNamespace(ask=ask, plain=plain, url=server.url)


@pytest.fixture(scope="module")
def sound(make_sound):
    return make_sound(0.4)


def given(sound, **more):
    return {"model": "tiny", "file": ("a.wav", sound), "extra_body": {"max_tokens": 8}, **more}


def test_the_question_is_that_of_the_data(served, talker, sound):
    wanted = answer(*talker, [[user(audio(sound), ASK_TRANSCRIPT)]], Generation(8))[0]
    assert wanted
    found = served.ask(**given(sound))
    assert found.text == wanted
    length = len(talker[1].encode([user(audio(sound), ASK_TRANSCRIPT)], generation=True))
    assert (found.usage.input_tokens, found.usage.output_tokens) == (length, 8)
    assert served.ask(**given(sound, response_format="text")).rstrip("\n") == wanted
    whole = served.ask(**given(sound, response_format="verbose_json"))
    assert (whole.text, whole.duration, whole.usage.seconds) == (wanted, 0.4, 0.4)
    events = list(served.ask(**given(sound, stream=True)))
    assert "".join(e.delta for e in events if e.type == "transcript.text.delta") == wanted
    assert (events[-1].type, events[-1].text) == ("transcript.text.done", wanted)
    assert events[-1].usage.total_tokens == length + 8
    with httpx.stream("POST", served.url + PATH, files={"file": ("a", sound)}, data={
        "stream": "true", "max_tokens": "2"}) as raw:  # fmt: skip
        assert raw.headers["content-type"].startswith("text/event-stream")


def test_language_and_prompt_go_before_the_sound(served, talker, sound):
    talk = [system("Language: de\nOf ships."), user(audio(sound), ASK_TRANSCRIPT)]
    how = Generation(8, temperature=1.3, seed=5)
    found = served.ask(**given(
        sound, language="de", prompt="Of ships.", temperature=1.3, response_format="verbose_json",
        extra_body={"max_tokens": 8, "seed": 5},
    ))  # fmt: skip
    assert (found.text, found.language) == (answer(*talker, [talk], how)[0], "de")


BAD = {
    "no file": ({"file": None}, "file", "is missing"),
    "a text": ({"file": "abc"}, "file", "must be a file"),
    "empty": ({"file": b""}, "file", "empty"),
    "noise": ({"file": b"abc" * 100}, "file", "not readable audio"),
    "large": ({"file": b"RIFF" * 60_000}, "file", "limit of 200,000"),
    "long": ({"file": 2.5}, "file", "limit of 2 s"),
    "file as field": ({"prompt": b"x"}, "prompt", "must be a string"),
    "format": ({"response_format": "srt"}, "response_format", "json, text, verbose_json"),
    "stream": ({"response_format": "text", "stream": "true"}, "response_format", "events"),
    "language": ({"language": "German!"}, "language", "a code like en"),
    "prompt": ({"prompt": "x" * 101}, "prompt", "limit of 100"),
    "temperature": ({"temperature": "warm"}, "temperature", "must be a number, not 'warm'"),
    "nan": ({"temperature": "NaN"}, "temperature", "must be a number"),
    "negative": ({"temperature": "-1"}, "temperature", "from 0"),
    "n": ({"n": "2"}, "n", "not supported"),
    "unknown": ({"keywords": "x"}, "keywords", "not known"),
    "times": ({"timestamp_granularities[]": "word"}, "timestamp_granularities[]", "not known"),
    "tokens": ({"max_tokens": "0"}, "max_tokens", "1 to"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_is_wrong_is_named(served, sound, make_sound, kind):
    fields, place, reason = BAD[kind]
    fields = {"file": sound, "model": "tiny"} | fields
    fields = {n: make_sound(v) if isinstance(v, float) else v for n, v in fields.items()}
    files = {n: ("a", v) if isinstance(v, bytes) else (None, v)
             for n, v in fields.items() if v is not None}  # fmt: skip
    found = served.plain.post(PATH, files=files)
    error = found.json()["error"]
    assert (found.status_code, error["param"]) == (400, place), error
    assert reason in error["message"] and place in error["message"]


def part(name="model", value=b"tiny", more=b""):
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n'.encode()
    return head + more + b"\r\n" + value + b"\r\n"


END = b"--x--\r\n"
FORMS = {
    "nothing": (b"", "is cut"),
    "cut": (part(), "is cut"),
    "no form": (b"{}", "cannot be read"),
    "no name": (b"--x\r\nA: b\r\n\r\nc\r\n" + END, "cannot be read"),
    "twice": (part() + part() + END, "model: is there twice"),
    "many": (b"".join(part(f"f{n}") for n in range(40)) + END, "limit of 32"),
    "bytes": (part(value=b"\xff\xfe") + END, "model: a text of the form is not UTF-8"),
    "encoding": (part(more=b"Content-Transfer-Encoding: zip\r\n") + END, "cannot be read"),
    "base64": (part(more=b"Content-Transfer-Encoding: base64\r\n", value=b"@@@@@") + END, ""),
    "headers": (part(more=b"A: b\r\n" * 1000) + END, "cannot be read"),
}


@pytest.mark.parametrize("kind", FORMS)
def test_forms_that_are_none(served, kind):
    body, reason = FORMS[kind]
    found = served.plain.post(
        PATH, content=body, headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert found.status_code == 400, found.text
    assert reason in found.json()["error"]["message"]


def test_a_form_must_be_one_with_a_boundary_and_of_no_other_site(served, sound):
    body = part() + END
    for mime, status in (("application/json", 415), ("multipart/form-data", 400)):
        found = served.plain.post(PATH, content=body, headers={"Content-Type": mime})
        assert found.status_code == status and found.json()["error"]["message"]
    files = {"file": ("a", sound)}
    for origin, status in (
        ("https://x.example", 403),
        ("null", 403),
        ("http://[", 403),
        (served.url, 200),
    ):
        data = {"max_tokens": "2"}
        found = served.plain.post(PATH, files=files, data=data, headers={"Origin": origin})
        assert found.status_code == status, found.text


def test_a_model_that_cannot_hear_says_so(make_model, specs, sound):
    with running(make_model(vision=specs.vision)) as server:
        found = httpx.post(server.url + PATH, files={"file": ("a", sound)})
        assert found.status_code == 400
        assert "file: there is audio, but the model has no encoder" in found.text


@pytest.mark.parametrize("text", ["<think>a < b</think>\nlion", "a <b, <thing"])
def test_thinking_is_no_part_of_a_transcript(text):
    reply = Transcript(Transcribed("", Generation(), False, True, False, False, 1.0), 3)
    lines = [line for n in range(len(text)) for line in reply.chunks(Wrote(0, text[:n].strip()))]
    sent = "".join(json.loads(line[6:])["delta"] for line in lines)
    assert text.rpartition("\n")[2].startswith(sent) and len(sent) >= 3
