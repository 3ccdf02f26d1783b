"""Who answers, in which batches, and what is remembered of it."""

import json
import multiprocessing
import os
import shutil
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_shards.sample import Sample
from data_shards.sources.base import flac
from data_shards.write import write_shards
from eval.backends import open_model
from eval.backends.ours import for_model
from eval.batching import LONGEST, Answerer, CannotAskError, identify
from eval.bench import prefix, resume, speed, stale
from eval.cli import app
from eval.ranks import Ranks, join
from eval.run import evaluate
from eval.store import AnswerStore, code_digest
from omni.messages import assistant, audio, image, user
from omni.prefix import Shared

KINDS = ("animal", "food", "plant", "tool")


def said(messages) -> str:
    return messages[-1]["content"][-1]["text"]


def shout(batch, most, stop) -> list[str]:
    return [said(messages).upper() for messages in batch]


def cost(messages) -> int:
    return len(said(messages))


@pytest.fixture(scope="module")
def data(make_picture, tmp_path_factory):
    """Pictures of four kinds, and one spoken word."""
    folder = tmp_path_factory.mktemp("kinds")
    facts = {"source": "stamps", "license": "GPL-2.0", "schema": 1}
    samples = []
    for n in range(12):
        meta = facts | {"kind": "caption", "identity": f"i{n}", "category": KINDS[n % 4]}
        meta["caption"] = f"The thing {n}."
        messages = [user(image("img0.png"), "What is this?"), assistant(meta["caption"])]
        samples.append(Sample(messages, {"img0.png": make_picture(n)}, meta, split="heldout"))
    write_shards(samples, folder / "stamps")
    wave = flac(0.3 * np.sin(np.arange(8000) / 5).astype(np.float32))
    messages = [user(audio("aud0.flac"), "Repeat."), assistant("lion.")]
    meta = facts | {"kind": "transcription", "text": "lion"}
    word = Sample(messages, {"aud0.flac": wave}, meta, split="heldout")
    write_shards([word], folder / "speech")
    return folder


def test_answers_come_back_only_for_the_same_model(tmp_path):
    AnswerStore(tmp_path, "one").add({"q": "a\n", "r": ""})
    AnswerStore(tmp_path, "two").add({"q": "b"})
    assert AnswerStore(tmp_path, "one").answers == {"q": "a\n", "r": ""}
    assert AnswerStore(tmp_path, "two").answers == {"q": "b"}
    assert AnswerStore(tmp_path, "three").answers == {}


def test_a_torn_line_costs_one_answer(tmp_path):
    AnswerStore(tmp_path, "m").add({"q": "a", "r": "b"})
    file = tmp_path / "rank0.jsonl"
    for length in range(len(file.read_bytes()) - 1, 90, -9):
        os.truncate(file, length)
        AnswerStore(tmp_path, "m").add({"s": "c"})
        found = AnswerStore(tmp_path, "m").answers
        assert found["s"] == "c"
        assert found["q"] == "a"


def test_every_rank_reads_the_files_of_all(tmp_path, monkeypatch):
    monkeypatch.setattr(Ranks, "gather", lambda self, mine: [mine])
    for rank in range(3):
        AnswerStore(tmp_path, "m", Ranks(rank, 3)).add({f"q{rank}": "a"})
    assert len(list(tmp_path.iterdir())) == 3
    assert set(AnswerStore(tmp_path, "m", Ranks(0, 1)).answers) == {"q0", "q1", "q2"}


class Killed(BaseException):
    """Stands for kill -9: nothing in the harness may catch it."""


def test_a_kill_costs_one_batch(tmp_path):
    asked = []

    def answer_batch(batch, most, stop):
        asked.extend(map(said, batch))
        if len(asked) > 12:
            raise Killed
        return shout(batch, most, stop)

    conversations = [[user(f"question {n}")] for n in range(30)]
    with pytest.raises(Killed):
        Answerer(answer_batch, cost, max_batch=4, store=AnswerStore(tmp_path))(conversations, 8)
    answered = asked[:12]
    asked[:] = []
    again = Answerer(lambda b, m, s: asked.extend(map(said, b)) or shout(b, m, s), cost,
                     store=AnswerStore(tmp_path))  # fmt: skip
    assert again(conversations, 8) == [f"QUESTION {n}" for n in range(30)]
    assert not set(asked) & set(answered)


def test_the_next_batch_is_encoded_while_one_is_answered():
    encoded: list[str] = []
    second = threading.Event()

    def encode(batch):
        encoded.append(said(batch[0]))
        if len(encoded) == 2:
            second.set()
        return batch

    def answer_batch(batch, most, stop):
        assert second.wait(5), "nothing is encoded while this batch is being answered"
        assert len(encoded) <= ord(said(batch[0])) - ord("a") + 2  # nor is all held ready
        return shout(batch, most, stop)

    answerer = Answerer(answer_batch, cost, encode, max_batch=1)
    assert answerer([[user(c)] for c in "abcd"], 1) == list("ABCD")
    assert encoded == list("abcd")


def test_an_endless_answer_loses_its_middle():
    answerer = Answerer(lambda b, m, s: ["A" + "x" * 100_000 + "B"] * len(b), cost)
    (text,) = answerer([[user("?")]], 1, names=["task:7"])
    assert len(text) < LONGEST + 10
    assert text[0] + text[-1] == "AB"
    assert answerer.shortened == ["task:7: 100,002 characters"]


def test_what_is_wrong_is_named_and_tried_again(tmp_path):
    def answer_batch(batch, most, stop):
        return [ValueError("no") if said(m) == "bad" else "fine" for m in batch]

    conversations = [[user("good")], [user("bad")], [user("bad")]]
    for _ in range(2):
        answerer = Answerer(answer_batch, cost, store=AnswerStore(tmp_path))
        assert answerer(conversations, 1, names=["t:0", "t:1", "t:2"]) == ["fine", "", ""]
        assert answerer.problems == ["t:1: ValueError: no", "t:2: ValueError: no"]
    assert list(AnswerStore(tmp_path).answers.values()) == ["fine"]


def test_a_changed_medium_is_another_question(tmp_path, make_picture):
    file = tmp_path / "img.png"
    found = set()
    for seed in range(2):
        file.write_bytes(make_picture(seed))
        sound = {"array": np.full(9000, seed, np.float32), "sampling_rate": 16000}
        paletted = Image.new("P", (2, 2))
        paletted.putpalette([seed, 0, 0])
        media = image(str(file)), image(file.read_bytes()), image(paletted), audio(sound)
        found |= {identify([user(medium, "?")], 8, ())[0] for medium in media}
    assert len(found) == 8
    text = {identify([user(str(file))], 8, stop)[0] for stop in ((), ("\n",))}
    file.write_bytes(b"another file of that name")
    assert text == {identify([user(str(file))], 8, stop)[0] for stop in ((), ("\n",))}


@pytest.fixture(scope="module")
def talker(make_model, specs):
    """A tiny model that says many things: a random head of its own ends its repetitions."""
    import torch

    model, processor = make_model(vision=specs.vision)
    torch.manual_seed(0)
    model.language_model.lm_head.weight = torch.nn.Parameter(torch.randn(260, 32))
    return model, processor


def test_answers_do_not_depend_on_the_batch(talker, make_picture):
    model, processor = talker
    conversations = [
        [user(*([image(make_picture(n // 3, (30 + 5 * n, 40)))] if n % 4 else []), "w" * 7 * n)]
        for n in range(12)
    ]
    one, many = (for_model(model, processor, max_batch=n, token_budget=10**6) for n in (1, 12))
    texts = one(conversations, 12)
    assert many(conversations, 12) == texts
    assert not one.problems
    assert (one.batches, many.batches) == (12, 2)
    assert len(set(texts)) > 3


def test_generation_ends_with_a_stop_string(talker):
    model, processor = talker
    (free,) = for_model(model, processor)([[user("Hello")]], 40)
    stop = next(c for n, c in enumerate(free) if n > 2 and c.isascii() and c.isalnum())
    steps: list[int] = []
    hook = model.register_forward_pre_hook(lambda *inputs: steps.append(1))
    answerer = for_model(model, processor)
    assert answerer([[user("Hello")]], 40, (stop,)) == [free.split(stop)[0].strip()]
    hook.remove()
    assert not answerer.problems
    assert len(steps) < 20


def test_a_model_without_ears_misses_the_row(data, tmp_path, make_model, specs):
    seeing = for_model(*make_model(vision=specs.vision))
    with pytest.raises(CannotAskError, match="audio"):
        seeing([[user(audio(b""), "?")]], 1)
    result = evaluate(seeing, "w", "mini", data, tmp_path, rows=["spoken_word"], controls=False)
    assert "audio" in result["rows"][0]["missing"]


def rank_of_two(rank: int, port: int, data, out, queue) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    asked: list[str] = []

    def answer_batch(batch, most, stop):
        asked.extend(identify(messages, 0, ())[0] for messages in batch)
        return [KINDS[int(key[0], 16) % 4] for key in asked[-len(batch) :]]

    result = evaluate(Answerer(answer_batch, lambda messages: 50, ranks=join()), "w", "mini",
                      data, out, rows=["mini-realworldqa", "category"])  # fmt: skip
    queue.put((result["rows"], len(set(asked)), len(asked)))


def test_two_ranks_give_the_table_of_one(data, tmp_path):
    def single(batch, most, stop):
        return [KINDS[int(identify(messages, 0, ())[0][0], 16) % 4] for messages in batch]

    rows = ["mini-realworldqa", "category"]
    alone = evaluate(Answerer(single, lambda messages: 50), "w", "mini", data, tmp_path / "1",
                     rows=rows)  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")  # what this process has imported, they have
    queue = context.Queue()
    ranks = [context.Process(target=rank_of_two, args=(r, port, data, tmp_path / "2", queue))
             for r in range(2)]  # fmt: skip
    for process in ranks:
        process.start()
    found = [queue.get(timeout=60) for _ in ranks]
    for process in ranks:
        process.join(20)
    assert [rows for rows, *_ in found] == [alone["rows"]] * 2
    shares = [count for _, count, _ in found]
    assert max(shares) - min(shares) <= 3  # one may be left over in each of three calls
    stored = (tmp_path / "2" / "store").glob("*.jsonl")
    lines = [json.loads(line)["question"] for file in stored for line in file.open()]
    assert len(lines) == len(set(lines)) == sum(shares)
    written = json.loads((tmp_path / "2" / "rows.json").read_text())
    assert written["rows"] == json.loads(json.dumps(alone["rows"]))


def test_shares_are_of_equal_cost_and_disjoint():
    costs = {f"q{n}": (n * 37) % 100 + 1 for n in range(50)}
    parts = [Ranks(rank, 3).share(costs) for rank in range(3)]
    assert sorted(key for part in parts for key in part) == sorted(costs)
    loads = [sum(part.values()) for part in parts]
    assert max(loads) - min(loads) <= 3


class Endpoint(BaseHTTPRequestHandler):
    """Answers by what is asked; remembers everything."""

    asked: ClassVar[list[dict]] = []
    tries: ClassVar[dict[str, int]] = {}
    stuck = threading.Event()
    card: ClassVar[dict[str, Any]] = {}

    def do_GET(self):
        reply = json.dumps({"id": "tiny", "object": "model"} | self.card).encode()
        self.send_response(200 if self.card and self.path.endswith("/models/tiny") else 404)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(reply)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body | {"path": self.path, "key": self.headers["Authorization"]})
        *_, last = body["messages"][-1]["content"]
        text = last["text"]
        self.tries[text] = self.tries.get(text, 0) + 1
        if text == "silence":
            self.stuck.wait(10)
        status = {"busy": 429, "down": 500, "denied": 401}.get(text, 200)
        if text == "busy once":
            status = 429 if self.tries[text] == 1 else 200
        reply = json.dumps({"choices": [{"message": {"role": "assistant", "content": text[::-1]}}]})
        if text == "garbage":
            reply = "<html>"
        if text == "half":
            reply = '{"choices": []}'
        if text == "nothing":
            reply = '{"choices": [{"message": {"content": null}}]}'
        if text == "silence":
            return
        self.send_response(status)
        self.send_header("retry-after-ms", "1")
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(reply.encode())

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 32  # all questions of a batch come at once


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    Endpoint.asked, Endpoint.tries, Endpoint.stuck = [], {}, threading.Event()
    Endpoint.card = {}
    with Server(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"openai:http://127.0.0.1:{server.server_address[1]}/v1"
        Endpoint.stuck.set()
        server.shutdown()


def test_an_endpoint_that_fails_costs_the_answers_it_owes(endpoint, make_picture):
    asks = ("hello", "busy", "busy once", "down", "garbage", "half", "nothing", "silence", "world")
    opened = open_model(endpoint, "tiny", tries=2, seconds=1.0)
    conversations = [[user(image(make_picture(1)), text)] for text in asks]
    texts = opened.answerer(conversations, 8, ("\n",), names=asks)
    assert dict(zip(asks, texts, strict=True)) == dict.fromkeys(asks, "") | {
        "hello": "olleh", "busy once": "ecno ysub", "world": "dlrow",
    }  # fmt: skip
    named = {line.split(":")[0] for line in opened.answerer.problems}
    assert named == {"busy", "down", "garbage", "half", "nothing", "silence"}
    assert Endpoint.tries["busy"] == Endpoint.tries["down"] == Endpoint.tries["silence"] == 2
    sent = Endpoint.asked[0]
    assert sent["path"] == "/v1/chat/completions"
    assert (sent["model"], sent["max_tokens"], sent["temperature"]) == ("tiny", 8, 0)
    assert (sent["stop"], sent["key"]) == (["\n"], "Bearer sesame")
    url = sent["messages"][0]["content"][0]["image_url"]["url"]
    assert url.startswith("data:image/png;base64,")


def test_an_endpoint_that_refuses_ends_the_run(endpoint):
    opened = open_model(endpoint, "tiny")
    with pytest.raises(OSError, match="refuses to answer"):
        opened.answerer([[user("denied")]], 8)
    with pytest.raises(ValueError, match="--model-name"):
        open_model(endpoint)
    absent = open_model("openai:http://127.0.0.1:9/v1", "tiny", tries=1)
    with pytest.raises(OSError, match="cannot be reached"):
        absent.answerer([[user("anybody there?")]], 8)


def test_an_endpoint_that_hangs_ends_the_run(endpoint, make_picture):
    opened = open_model(endpoint, "tiny", tries=1, seconds=0.2, max_batch=2)
    hanging = [[user(image(make_picture(n)), "silence")] for n in range(8)]
    with pytest.raises(OSError, match="silent for 3 batches"):
        opened.answerer(hanging, 8)
    assert Endpoint.tries["silence"] == 1 + 1 + 2  # the first batch begins with one
    asks = ["silence", "hello", "silence"]
    mixed = [[user(image(make_picture(n)), text)] for n, text in enumerate(asks * 3)]
    opened = open_model(endpoint, "tiny", tries=1, seconds=0.5, max_batch=3)
    assert opened.answerer(mixed, 8).count("olleh") == 3


def test_another_model_at_the_same_address_is_another(endpoint):
    def weights(card):
        Endpoint.card = card
        return open_model(endpoint, "tiny").weights

    cards = {}, {"created": 7}, {"created": 8}, {"created": 8, "root": "a"}
    assert len({weights(card) for card in cards}) == 4
    assert weights({"created": int(time.time())}) == weights({})  # the time of the question


def test_a_row_without_a_single_answer_has_no_score(data, tmp_path):
    def answer_batch(batch, most, stop):
        return [ValueError("gone")] * len(batch)

    result = evaluate(Answerer(answer_batch, lambda messages: 1), "w", "mini", data, tmp_path,
                      rows=["category", "mini-realworldqa"])  # fmt: skip
    for row in result["rows"]:
        assert row["score"] is None
        assert "questions has an answer; the first: " in row["missing"]
        assert "ValueError: gone" in row["missing"]
    assert result["problems"] == []


def test_the_command_takes_an_endpoint(endpoint, data, tmp_path):
    arguments = ["--model-name", "tiny", "--data", str(data), "--out", str(tmp_path / "out")]
    more = ["--rows", "category,spoken_word", "--limit", "2", "--no-controls"]
    done = CliRunner().invoke(app, [endpoint, *arguments, *more])
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "out" / "rows.json").read_text())
    assert result["model"] == f"{endpoint} tiny"
    assert result["rows"][0]["n"] == 2
    assert "audio" in result["rows"][1]["missing"]
    asked = len(Endpoint.asked)
    CliRunner().invoke(app, ["--model", endpoint, *arguments, *more])
    assert len(Endpoint.asked) == asked  # all from the store
    for wrong in ([], [endpoint, "--model", endpoint]):
        assert "one model" in CliRunner().invoke(app, ["run", *wrong]).output


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    """A tiny random LLaVA with a processor of its own, saved."""
    import torch
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    from omni.model import load_text_tokenizer

    folder = tmp_path_factory.mktemp("llava")
    tokenizer = load_text_tokenizer("tiny:llama")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    template = (
        "{% for m in messages %}<|im_start|>{% for p in m.content %}{% if p.type == 'image' %}"
        "<image>{% else %}{{ p.text }}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
    )
    pictures = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    processor = LlavaProcessor(
        pictures, tokenizer, patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=template,
    )  # fmt: skip
    shape: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**shape, num_hidden_layers=2, image_size=16, patch_size=8),
        text_config=LlamaConfig(**shape, vocab_size=len(tokenizer), num_hidden_layers=2),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_a_model_of_transformers_answers_in_batches_as_alone(llava, make_picture):
    conversations = [
        [user(*([image(make_picture(n))] if n % 3 else []), "What? " * n)] for n in range(1, 6)
    ]
    one, many = (open_model(f"hf:{llava}", max_batch=n, token_budget=10**6) for n in (1, 5))
    texts = one.answerer(conversations, 6)
    assert many.answerer(conversations, 6) == texts
    assert many.answerer.batches == 2
    assert len(set(texts)) > 1
    assert one.weights == many.weights
    with pytest.raises(CannotAskError):
        one.answerer([[user(audio(b""), "?")]], 1)


def test_another_template_or_tokenizer_is_another_model(llava, tmp_path):
    def settings(file: str = "", old: str = "", new: str = "") -> str:
        folder = tmp_path / f"{file}-{new}"
        shutil.copytree(llava, folder)
        if file:
            text = (folder / file).read_text()
            assert old in text
            (folder / file).write_text(text.replace(old, new))
        return open_model(f"hf:{folder}").answerer.settings

    same = settings()
    changes = [
        ("chat_template.jinja", "<|im_end|>", "!"),
        ("tokenizer.json", '"normalizer": null', '"normalizer": {"type": "Lowercase"}'),
        ("config.json", '"rms_norm_eps": 1e-06', '"rms_norm_eps": 0.5'),
    ]
    assert len({same, *(settings(*change) for change in changes)}) == 4
    assert open_model(f"hf:{llava}").answerer.settings == same  # wherever it lies


def test_other_code_has_other_answers(tmp_path):
    (tmp_path / "a.py").write_text("x = 1")
    before = code_digest(tmp_path)
    (tmp_path / "a.py").write_text("x = 2")
    assert code_digest(tmp_path) != before


@pytest.mark.parametrize(("fault", "ok"), [({}, True), ({"forget_whose": True}, False)])
def test_no_old_answer_is_used(fault, ok, tmp_path):
    result = stale.run(tmp_path, small=True, **fault)
    assert result.ok == ok, result.rows
    assert bool(result.figures["old_answers"]) != ok


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "ok"), [({}, True), ({"forget": True}, False)])
def test_a_killed_evaluation_asks_one_batch_again(fault, ok, tmp_path):
    result = resume.run(tmp_path, small=True, **fault)
    assert result.ok == ok, result.rows
    assert result.figures["same_table"]


@pytest.mark.slow
def test_circular_questions_are_answered_as_before_when_they_share(tmp_path, monkeypatch):
    shared, run = [], Shared.to_generate
    monkeypatch.setattr(Shared, "to_generate", lambda *given: shared.append(given) or run(*given))
    assert prefix.run(tmp_path, small=True).figures["identical"]
    assert shared


@pytest.mark.slow
def test_stock_lmms_eval_gives_the_same_answers(tmp_path):
    assert speed.run(tmp_path, small=True).figures["identical"]
