"""OpenAI's paths, asked by OpenAI's own client over a real socket."""

import base64
import contextlib
import json
import socket
import threading
import time
from functools import partial
from types import SimpleNamespace

import av
import httpx
import numpy as np
import openai
import pytest
import torch
import uvicorn

from omni.generation.answer import answer
from omni.generation.settings import Generation
from omni.processing.messages import assistant, audio, image, system, user, video
from omni.serve import sources as places
from omni.serve.app import make_app
from omni.serve.engine import Engine
from omni.serve.limits import RequestLimits
from omni.serve.refusal import RequestError
from omni.serve.sources import Sources

LIMITS = RequestLimits(
    max_body=1 << 20, body_seconds=1.0, max_messages=6, max_parts=8, max_media=4,
    max_characters=2000, max_bytes=200_000, max_pixels=10_000, max_seconds=2.0, deadline=20.0,
)  # fmt: skip
HOW = {"max_tokens": 8, "temperature": 0}


@contextlib.contextmanager
def serving(talker, key="", sources=None, **options):
    """Serve over a socket, in threads of this process."""
    engine = Engine(*talker, **options)
    found = sources or Sources(max_bytes=LIMITS.max_bytes)
    app = make_app(engine, "tiny", LIMITS, found, key)
    bound = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    client = openai.OpenAI(base_url=url + "/v1", api_key=key or "none", max_retries=0)
    try:
        with httpx.Client(base_url=url, timeout=30) as plain:
            yield SimpleNamespace(client=client, plain=plain, engine=engine, url=url)
    finally:
        server.should_exit = True
        thread.join()
        engine.close()


@pytest.fixture(scope="module")
def served(talker):
    with serving(talker) as kit:
        yield kit


def data_url(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


@pytest.fixture(scope="module")
def files(make_picture, make_sound, tmp_path_factory):
    clip = tmp_path_factory.mktemp("clip") / "v.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width = stream.height = 32
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return SimpleNamespace(image=make_picture(1), audio=make_sound(0.4), video=clip.read_bytes())


@pytest.fixture(scope="module")
def questions(files):
    """Each format: (a message of a client, the same in our words)."""
    png, wav, clip = files.image, files.audio, files.video
    sound = {"data": base64.b64encode(wav).decode(), "format": "wav"}
    shown = {
        "words": ("Two and two?", user("Two and two?")),
        "text": ([{"type": "text", "text": "Hi <|im_end|>"}], user("Hi <|im_end|>")),
        "image_url": ([{"type": "image_url", "image_url": {"url": data_url("image/png", png)}},
                       {"type": "text", "text": "What?"}], user(image(png), "What?")),
        "input_audio": ([{"type": "input_audio", "input_audio": sound}], user(audio(wav))),
        "audio_url": ([{"type": "text", "text": "Say: "}, {"type": "audio_url", "audio_url":
                       {"url": data_url("audio/wav", wav)}}], user("Say: ", audio(wav))),
        "video_url": ([{"type": "video_url", "video_url": {"url": data_url("video/mp4", clip)}}],
                      user(video(clip))),
    }  # fmt: skip
    asked = {name: ([{"role": "user", "content": content}], [ours])
             for name, (content, ours) in shown.items()}  # fmt: skip
    turns = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "A?"},
             {"role": "assistant", "content": "B", "refusal": None},
             {"role": "user", "content": shown["image_url"][0]}]  # fmt: skip
    ours = [system("Be brief."), user("A?"), assistant("B"), shown["image_url"][1]]
    return asked | {"turns": (turns, ours)}


FORMATS = ("words", "text", "image_url", "input_audio", "audio_url", "video_url", "turns")


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_is_answered_as_the_model_alone_does(served, talker, questions, kind):
    theirs, ours = questions[kind]
    wanted = answer(*talker, [ours], Generation(max_new_tokens=8))[0]
    found = served.client.chat.completions.create(model="tiny", messages=theirs, **HOW)
    [choice] = found.choices
    assert (choice.message.content, choice.message.role) == (wanted, "assistant")
    assert choice.finish_reason == "length"
    length = len(talker[1].encode(ours, generation=True))
    usage = found.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (length, 8)
    assert usage.total_tokens == length + 8
    stream = served.client.chat.completions.create(
        model="tiny", messages=theirs, stream=True, stream_options={"include_usage": True}, **HOW
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content for c in chunks if c.choices) == wanted
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].usage == usage


DRAWN = {"temperature": 1.2, "top_p": 0.9, "seed": 7, "max_tokens": 8, "n": 3}


def test_several_drawn_answers_are_those_of_the_model_alone(served, talker):
    wanted = answer(*talker, [[user("Hi?")]], Generation(8, (), 1.2, 0.9, 3, 7))
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "Hi?"}], **DRAWN}
    found = served.client.chat.completions.create(**asked)
    assert [choice.message.content for choice in found.choices] == wanted
    texts = ["", "", ""]
    for chunk in served.client.chat.completions.create(**asked, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content
    assert texts == wanted
    other = served.client.chat.completions.create(**{**asked, "seed": None})
    assert [choice.message.content for choice in other.choices] != wanted


THINKING = {"max": 9, "ignore_end": 1, "wait": "Wait <|im_end|>"}


def test_thinking_has_a_budget_and_a_count(served, talker, questions):
    theirs, ours = questions["image_url"]
    how = Generation(6, thinking=THINKING)
    wanted = answer(*talker, [ours], how)[0]
    ask = partial(
        served.client.chat.completions.create, model="tiny", messages=theirs, max_tokens=6,
        temperature=0, extra_body={"thinking": THINKING},
    )  # fmt: skip
    found = ask(logprobs=True)
    assert found.choices[0].message.content == wanted and wanted.startswith("<think>")
    assert found.usage.completion_tokens_details.reasoning_tokens == 9
    assert found.usage.completion_tokens == len(found.choices[0].logprobs.content) > 15
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(texts) == wanted and len(texts) > 3
    assert chunks[-1].usage == found.usage


def test_stops_and_logprobs(served, talker, questions):
    theirs, ours = questions["words"]
    whole = answer(*talker, [ours], Generation(max_new_tokens=8))[0]
    stop = next(c for c in whole[1:] if c not in whole[0])
    found = served.client.chat.completions.create(
        model="tiny", messages=theirs, stop=stop, logprobs=True, **HOW
    )
    [choice] = found.choices
    assert choice.finish_reason == "stop"
    assert choice.message.content == whole[: whole.index(stop)].strip()
    assert len(choice.logprobs.content) == found.usage.completion_tokens
    assert all(token.logprob <= 0 for token in choice.logprobs.content)
    assert stop in "".join(token.token for token in choice.logprobs.content)


def test_plain_completions(served, talker):
    model, processor = talker
    ids = torch.tensor([processor.tokenizer("Once upon", add_special_tokens=False)["input_ids"]])
    new = model.generate(input_ids=ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
    wanted = processor.tokenizer.decode(new, skip_special_tokens=True).strip()
    found = served.client.completions.create(model="tiny", prompt="Once upon", **HOW)
    assert (found.choices[0].text, found.usage.prompt_tokens) == (wanted, ids.shape[1])
    stream = served.client.completions.create(model="tiny", prompt=["Once upon"], stream=True, **HOW)  # fmt: skip # noqa: E501
    assert "".join(chunk.choices[0].text for chunk in stream) == wanted
    with pytest.raises(openai.BadRequestError, match="prompt: must"):
        served.client.completions.create(model="tiny", prompt=["a", "b"])


def test_models_health_and_metrics(served):
    assert [model.id for model in served.client.models.list()] == ["tiny"]
    health = served.plain.get("/health")
    assert (health.status_code, health.json()) == (200, {"ok": True})
    page = served.plain.get("/metrics").text
    for line in ("omni_waiting 0.0", "omni_running 0.0", "omni_generated_tokens_total",
                 "omni_first_token_seconds_bucket", 'path="/v1/models",status="200"'):  # fmt: skip
        assert line in page
    missing = served.plain.get("/nowhere")
    assert missing.status_code == 404 and "/nowhere" in missing.json()["error"]["message"]
    crossed = served.plain.options("/v1/models", headers={"Origin": "https://x.example"})
    assert "access-control-allow-origin" not in crossed.headers


def one(**part):
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, part]}]}


def picture(url):
    return one(type="image_url", image_url={"url": url})


def sound(data="", form="wav"):
    return one(type="input_audio", input_audio={"data": data, "format": form})


HI = {"messages": [{"role": "user", "content": "Hi"}]}
PART = "messages[0].content[1]"
BAD = {
    "no object": ([], None, "must be an object"),
    "no messages": ({}, "messages", "missing"),
    "null messages": ({"messages": None}, "messages", "missing"),
    "empty messages": ({"messages": []}, "messages", "must hold"),
    "many messages": ({"messages": [HI["messages"][0]] * 7}, "messages", "limit of 6"),
    "role": ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "'tool'"),
    "late system": ({"messages": [*HI["messages"], {"role": "system", "content": "x"}]},
                    "messages[1].role", "first"),
    "last turn": ({"messages": [{"role": "assistant", "content": "x"}]}, "messages[0].role",
                  "user"),
    "null content": ({"messages": [{"role": "user", "content": None}]}, "messages[0].content",
                     "missing"),
    "message field": ({"messages": [{"role": "user", "content": "x", "name": "y"}]},
                      "messages[0].name", "not known"),
    "unknown field": ({**HI, "top_k": 3}, "top_k", "not known"),
    "tools": ({**HI, "tools": [{"type": "function"}]}, "tools", "not supported"),
    "audio out": ({**HI, "modalities": ["text", "audio"], "audio": {"format": "wav"}},
                  "modalities", "cannot speak"),
    "audio alone": ({**HI, "modalities": ["audio"]}, "modalities", "must be"),
    "audio unasked": ({**HI, "audio": {"format": "wav"}}, "audio", "only"),
    "no format": ({**HI, "modalities": ["text", "audio"]}, "audio.format", "missing"),
    "format": ({**HI, "modalities": ["text", "audio"], "audio": {"format": "mp3"}},
               "audio.format", "wav or pcm16, not 'mp3'"),
    "streamed wav": ({**HI, "modalities": ["text", "audio"], "audio": {"format": "wav"},
                      "stream": True}, "audio.format", "pcm16"),
    "voice": ({**HI, "modalities": ["text", "audio"], "audio": {"format": "wav", "voice": "alloy"}},
              "audio.voice", "one voice"),
    "no budget": ({**HI, "thinking": {}}, "thinking.max", "missing"),
    "budget": ({**HI, "thinking": {"max": 2000}}, "thinking.max", "at most 1024"),
    "less than none": ({**HI, "thinking": {"max": -1}}, "thinking.max", "from 0"),
    "more than most": ({**HI, "thinking": {"max": 1, "min": 2}}, "thinking.min", "at most"),
    "marker": ({**HI, "thinking": {"max": 1, "marker": "x"}}, "thinking.marker", "open thinking"),
    "wait": ({**HI, "thinking": {"max": 1, "wait": " "}}, "thinking.wait", "words"),
    "long words": ({**HI, "thinking": {"max": 1, "final": "x" * 201}}, "thinking.final", "200"),
    "budget field": ({**HI, "thinking": {"max": 1, "type": "enabled"}}, "thinking.type", "known"),
    "unknown part": (one(type="file", file={}), PART, "'file'"),
    "null part": ({"messages": [{"role": "user", "content": [None]}]}, "messages[0].content[0]",
                  "object"),
    "part field": (one(type="text", text="x", uuid="y"), PART + ".uuid", "not known"),
    "many parts": ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 9}]},
                   "messages[0].content[8]", "limit of 8"),
    "detail": (one(type="image_url", image_url={"url": "data:,", "detail": "high"}),
               PART + ".image_url.detail", "not supported"),
    "long text": ({"messages": [{"role": "user", "content": "x" * 2001}]}, "messages[0].content",
                  "limit of 2,000"),
    "surrogate": ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content",
                  "surrogate"),
    "base64": (picture("data:image/png;base64,@@@"), PART, "base64"),
    "no base64": (picture("data:image/png,abc"), PART, "data URL"),
    "other mime": (picture("data:audio/wav;base64,AAAA"), PART, "audio/wav"),
    "no image": (picture("data:image/png;base64,AAAA"), PART, "not a readable image"),
    "empty": (picture("data:image/png;base64,"), PART, "empty"),
    "large": (picture("data:image/png;base64," + "A" * 300_000), PART, "limit of 200,000"),
    "sound base64": (sound("é"), PART, "base64"),
    "sound format": (sound("AAAA", "midi"), PART + ".input_audio.format", "midi"),
    "no sound": (sound("AAAA"), PART, "not readable audio"),
    "no video": (one(type="video_url", video_url={"url": "data:video/mp4;base64,AAAA"}), PART, ""),
    "ftp": (picture("ftp://x.example/a.png"), PART, "must begin with"),
    "remote": (picture("http://x.example/a.png"), PART, "--allow-host"),
    "metadata": (picture("http://169.254.169.254/latest"), PART, "--allow-host"),
    "bad url": (picture("http://[::1"), PART, "not a URL"),
    "file": (picture("file:///etc/passwd"), PART, "--allow-dir"),
    "temperature": ({**HI, "temperature": -1}, "temperature", "from 0"),
    "top_p": ({**HI, "top_p": 2}, "top_p", "at most 1"),
    "seed": ({**HI, "seed": 1.5}, "seed", "whole number"),
    "n": ({**HI, "n": 100}, "n", "1 to 8"),
    "true": ({**HI, "n": True}, "n", "whole number"),
    "stop": ({**HI, "stop": [""]}, "stop", "1 to 200"),
    "tokens": ({**HI, "max_tokens": 0}, "max_tokens", "1 to 1024"),
    "both": ({**HI, "max_tokens": 1, "max_completion_tokens": 2}, "max_completion_tokens",
             "differ"),
    "deadline": ({**HI, "deadline": 1000}, "deadline", "at most 20"),
    "stream options": ({**HI, "stream_options": {"include_usage": True}}, "stream_options",
                       "streams only"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_is_wrong_is_named_with_its_place_and_limit(served, kind):
    body, place, reason = BAD[kind]
    text = json.dumps(body)
    headers = {"Content-Type": "application/json"}
    found = served.plain.post("/v1/chat/completions", content=text, headers=headers)
    error = found.json()["error"]
    assert (found.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["param"] == place
    assert reason in error["message"] and (place or "") in error["message"]


def test_media_beyond_the_limits_are_named(served, make_picture, make_sound):
    tone = base64.b64encode(make_sound(2.5)).decode()
    for body, reason in (
        (picture(data_url("image/png", make_picture(1, (200, 100)))), "limit of 10,000 pixels"),
        (sound(tone), "limit of 2 s"),
    ):
        error = served.plain.post("/v1/chat/completions", json=body).json()["error"]
        assert error["param"] == PART and reason in error["message"]


def test_the_wrong_model_is_not_found(served):
    with pytest.raises(openai.NotFoundError, match="tiny"):
        served.client.chat.completions.create(model="gpt", **HI)


def test_a_prompt_beyond_the_context_is_refused(talker, monkeypatch):
    text = talker[0].config.get_text_config(decoder=True)
    monkeypatch.setattr(text, "max_position_embeddings", 64)
    with serving(talker) as kit:
        ask = partial(kit.client.chat.completions.create, model="tiny", temperature=0)
        found = ask(messages=HI["messages"])
        assert found.usage.total_tokens <= 64  # no wish: what there is room for
        for words, more in (("x" * 80, {}), ("x", {"max_tokens": 60})):
            with pytest.raises(openai.BadRequestError, match="limit of 64") as caught:
                ask(messages=[{"role": "user", "content": words}], **more)
            assert caught.value.code == "context_length_exceeded"


RAW = {
    "no json": (b"{", "application/json", 400, "not JSON"),
    "nan": (b'{"temperature": NaN}', "application/json", 400, "NaN"),
    "deep": (b"[" * 100_000, "application/json", 400, "nested"),
    "bytes": (b"\xff\xfe\x00", "application/json", 400, "not JSON"),
    "form": (b"{}", "text/plain", 415, "Content-Type"),
    "large": (b" " * (2 << 20), "application/json", 413, "1,048,576"),
}


@pytest.mark.parametrize("kind", RAW)
def test_bodies_that_are_no_requests(served, kind):
    body, mime, status, reason = RAW[kind]
    headers = {"Content-Type": mime}
    found = served.plain.post("/v1/chat/completions", content=body, headers=headers)
    assert found.status_code == status
    assert reason in found.json()["error"]["message"]


def test_a_slow_body_is_not_waited_for(served):
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as slow:
        slow.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
                     b"Content-Type: application/json\r\n\r\n{")  # fmt: skip
        assert b" 408 " in slow.recv(1000).partition(b"\r\n")[0]


def test_a_key_is_asked_of_all_but_health(talker):
    with serving(talker, key="secret") as kit:
        assert kit.client.chat.completions.create(model="tiny", **HI, **HOW).choices
        for path in ("/v1/models", "/metrics"):
            assert kit.plain.get(path).status_code == 401
        with pytest.raises(openai.AuthenticationError, match="API key"):
            kit.client.with_options(api_key="other").models.list()
        assert kit.plain.get("/health").status_code == 200


def until(what):
    for _ in range(1000):
        if what():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to be")


@pytest.mark.parametrize("stream", [True, False])
def test_a_slot_is_free_once_the_client_is_gone(talker, stream):
    long = {**HI, "max_tokens": 1024, "stream": stream}
    # an answer takes 20 s, however fast the machine is
    slow = talker[0].language_model.register_forward_pre_hook(lambda *given: time.sleep(0.02))
    with slow, serving(talker) as kit:
        with (
            contextlib.suppress(httpx.ReadTimeout),
            kit.plain.stream("POST", "/v1/chat/completions", json=long, timeout=2) as found,
        ):
            assert stream and next(found.iter_lines())
        until(lambda: not kit.engine.running)
        page = kit.plain.get("/metrics").text
        assert "omni_answer_seconds_count 0.0" in page  # it was not written to its end
        assert kit.client.chat.completions.create(model="tiny", **HI, **HOW).choices


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_worker_is_not_healthy_until_the_next_one(talker, monkeypatch):
    monkeypatch.setattr("omni.serve.engine.PAUSE", 0.5)
    lost: list[Exception] = [torch.AcceleratorError("device lost")]

    def lose(*given):
        if lost:
            raise lost.pop()

    hook = talker[0].language_model.register_forward_pre_hook(lose)
    with serving(talker) as kit:
        ask = partial(kit.client.chat.completions.create, model="tiny", **HI, **HOW)
        with pytest.raises(
            openai.InternalServerError, match=r"worker .*AcceleratorError"
        ) as caught:
            ask()
        assert caught.value.status_code == 503
        assert caught.value.response.headers["retry-after"] == "1"
        health = kit.plain.get("/health")
        assert (health.status_code, health.json()) == (503, {"ok": False})
        until(lambda: kit.plain.get("/health").status_code == 200)
        assert ask().choices
    hook.remove()


def test_a_full_queue_is_a_429(talker, monkeypatch):
    gate, generate = threading.Event(), talker[0].generate
    monkeypatch.setattr(
        talker[0], "generate", lambda *args, **given: gate.wait(20) and generate(*args, **given)
    )
    with serving(talker, waiting=1, max_batch=1) as kit:
        ask = partial(kit.client.chat.completions.create, model="tiny", **HI, **HOW)
        asked = [threading.Thread(target=ask) for _ in range(2)]
        asked[0].start()
        until(lambda: kit.engine.running)
        asked[1].start()
        until(lambda: kit.engine.waiting)
        with pytest.raises(openai.RateLimitError) as caught:
            ask()
        assert int(caught.value.response.headers["retry-after"]) >= 1
        gate.set()
        for thread in asked:
            thread.join()


def test_local_files_are_read_below_allowed_folders_only(talker, make_picture, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("in/a b.png", "secret.png"):
        (tmp_path / name).write_bytes(make_picture(1))
    with serving(talker, sources=Sources(folders=(tmp_path / "in",))) as kit:
        good = picture((tmp_path / "in" / "a b.png").as_uri())["messages"]
        assert kit.client.chat.completions.create(model="tiny", messages=good, **HOW).choices
        for path in ("in/../secret.png", "in/%2e%2e/secret.png", "secret.png", "in%00/a"):
            bad = picture(f"file://{tmp_path}/{path}")["messages"]
            with pytest.raises(openai.BadRequestError, match=r"content\[1\]: local files"):
                kit.client.chat.completions.create(model="tiny", messages=bad, **HOW)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "0.0.0.0",
                "fe80::1%eth0", "100.64.0.1", "224.0.0.1"],
)  # fmt: skip
def test_an_allowed_host_with_a_private_address_is_refused(monkeypatch, address):
    found = [(0, 0, 0, "", ("93.184.216.34", 80)), (0, 0, 0, "", (address, 80))]
    monkeypatch.setattr(places.socket, "getaddrinfo", lambda *a, **k: found)
    with pytest.raises(RequestError, match="private address"):
        Sources(hosts=frozenset({"x.example"})).read("http://x.example/a", "image", "p")


@pytest.fixture
def remote(monkeypatch):
    """Serve bytes, and let the address of this machine count as public."""

    async def app(scope, receive, send):
        path = scope["path"]
        status = 302 if path == "/moved" else 200
        headers = [(b"location", b"/a")] if status == 302 else []
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * (50 if path == "/a" else 500)})

    bound = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    monkeypatch.setattr(places, "public_address", lambda host, port, place: "127.0.0.1")
    yield f"http://x.example:{bound.getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_an_allowed_host_is_asked_without_redirects_and_within_the_limit(remote):
    sources = Sources(hosts=frozenset({"x.example"}), max_bytes=100)
    assert sources.read(remote + "/a", "image", "p") == b"x" * 50
    for path, reason in (("/moved", "redirect"), ("/large", "limit of 100")):
        with pytest.raises(RequestError, match=reason):
            sources.read(remote + path, "image", "p")
