"""Who may answer: a checkpoint of ours, any model of transformers, an endpoint."""

import json
import resource
import shutil
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from typer.testing import CliRunner

from eval.answering.answerer import CannotAskError
from eval.answering.backends import open_model
from eval.answering.backends.hf import check
from eval.answering.backends.ours import for_model
from eval.cli import app
from eval.run import evaluate
from omni.generation.settings import Generation
from omni.processing.messages import audio, image, user


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
    texts = one(conversations, Generation(12))
    assert many(conversations, Generation(12)) == texts
    assert not one.problems
    assert (one.batches, many.batches) == (12, 2)
    assert len(set(texts)) > 3


def test_generation_ends_with_a_stop_string(talker):
    model, processor = talker
    (free,) = for_model(model, processor)([[user("Hello")]], Generation(40))
    stop = next(c for n, c in enumerate(free) if n > 2 and c.isascii() and c.isalnum())
    steps: list[int] = []
    hook = model.register_forward_pre_hook(lambda *inputs: steps.append(1))
    answerer = for_model(model, processor)
    assert answerer([[user("Hello")]], Generation(40, (stop,))) == [free.split(stop)[0].strip()]
    hook.remove()
    assert not answerer.problems
    assert len(steps) < 20


def test_a_model_without_ears_misses_the_row(kinds, tmp_path, make_model, specs):
    seeing = for_model(*make_model(vision=specs.vision))
    with pytest.raises(CannotAskError, match="audio"):
        seeing([[user(audio(b""), "?")]], Generation(1))
    result = evaluate(seeing, "w", "mini", kinds, tmp_path, rows=["spoken_word"], controls=False)
    assert "audio" in result["rows"][0]["missing"]


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
    texts = opened.answerer(conversations, Generation(8, ("\n",)), names=asks)
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
        opened.answerer([[user("denied")]], Generation(8))
    with pytest.raises(ValueError, match="--model-name"):
        open_model(endpoint)
    absent = open_model("openai:http://127.0.0.1:9/v1", "tiny", tries=1)
    with pytest.raises(OSError, match="cannot be reached"):
        absent.answerer([[user("anybody there?")]], Generation(8))


def test_an_endpoint_that_hangs_ends_the_run(endpoint, make_picture):
    opened = open_model(endpoint, "tiny", tries=1, seconds=0.2, max_batch=2)
    hanging = [[user(image(make_picture(n)), "silence")] for n in range(8)]
    with pytest.raises(OSError, match="silent for 3 batches"):
        opened.answerer(hanging, Generation(8))
    assert Endpoint.tries["silence"] == 1 + 1 + 2  # the first batch begins with one
    asks = ["silence", "hello", "silence"]
    mixed = [[user(image(make_picture(n)), text)] for n, text in enumerate(asks * 3)]
    opened = open_model(endpoint, "tiny", tries=1, seconds=0.5, max_batch=3)
    assert opened.answerer(mixed, Generation(8)).count("olleh") == 3


def test_another_model_at_the_same_address_is_another(endpoint):
    def weights(card):
        Endpoint.card = card
        return open_model(endpoint, "tiny").weights

    cards = {}, {"created": 7}, {"created": 8}, {"created": 8, "root": "a"}
    assert len({weights(card) for card in cards}) == 4
    assert weights({"created": int(time.time())}) == weights({})  # the time of the question


def test_the_command_takes_an_endpoint(endpoint, kinds, tmp_path):
    arguments = ["--model-name", "tiny", "--data", str(kinds), "--out", str(tmp_path / "out")]
    more = ["--rows", "category,spoken_word,mini-realworldqa", "--limit", "2", "--no-controls"]
    done = CliRunner().invoke(app, [endpoint, *arguments, *more])
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "out" / "rows.json").read_text())
    assert result["model"] == f"{endpoint} tiny"
    assert result["rows"][0]["n"] == 2
    assert "audio" in result["rows"][1]["missing"]
    assert result["rows"][2]["n"] == 2
    alone = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert result["peak_rss_gb"] > alone + 0.1  # lmms-eval's process too
    asked = len(Endpoint.asked)
    CliRunner().invoke(app, ["--model", endpoint, *arguments, *more])
    assert len(Endpoint.asked) == asked  # all from the store
    deaf = CliRunner().invoke(app, [endpoint, *arguments, "--rows", "spoken_word"])
    assert deaf.exit_code == 1, deaf.output
    assert "spoken_word is missing: there is audio" in deaf.output
    for wrong in ([], [endpoint, "--model", endpoint]):
        assert "one model" in CliRunner().invoke(app, ["run", *wrong]).output


def test_the_command_says_how_answers_are_drawn(endpoint, kinds, tmp_path):
    out = tmp_path / "out"
    arguments = [endpoint, "--model-name", "tiny", "--data", str(kinds), "--out", str(out),
                 "--no-controls", "--limit", "1"]  # fmt: skip
    drawing = ["--temperature", "0.5", "--top-p", "0.9", "--max-new-tokens", "3", "--seed"]
    rows = ["--rows", "category,mini-realworldqa"]  # of ours, and of the other process
    done = CliRunner().invoke(app, [*arguments, *drawing, "7", *rows])
    assert done.exit_code == 0, done.output
    result = json.loads((out / "rows.json").read_text())
    assert result["sampling"] == {"temperature": 0.5, "top_p": 0.9, "seed": 7}
    assert [row["details"]["max_new_tokens"] for row in result["rows"]] == [3, 3]
    assert "temperature 0.5, top_p 0.9, seed 7" in (out / "table.md").read_text()
    for seed in ("7", "8"):  # the store has answers of the first
        CliRunner().invoke(app, [*arguments, *drawing, seed, "--rows", "category"])
    names = "max_tokens", "temperature", "top_p", "seed"
    drawn = [tuple(sent[name] for name in names) for sent in Endpoint.asked]
    assert drawn == [(3, 0.5, 0.9, seed) for seed in (7, 7, 8)]
    wrong = CliRunner().invoke(app, [*arguments, "--top-p", "0"])
    assert (wrong.exit_code, len(Endpoint.asked)) == (2, 3)
    assert "top_p must be a number above 0, at most 1, not 0.0" in wrong.output


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

    from omni.model.forward import load_text_tokenizer

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
    for generation in (Generation(6), Generation(6, temperature=2.0)):
        texts = one.answerer(conversations, generation)
        assert many.answerer(conversations, generation) == texts
    assert one.answerer(conversations, replace(generation, seed=1)) != texts
    with pytest.raises(ValueError, match="n is 2, but a question has one score"):
        one.answerer(conversations, Generation(6, n=2))
    assert many.answerer.batches == 3
    assert len(set(texts)) > 1
    assert one.weights == many.weights
    with pytest.raises(CannotAskError):
        one.answerer([[user(audio(b""), "?")]], Generation(1))


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


@pytest.mark.slow
def test_the_command_says_how_questions_are_put(endpoint, kinds, tmp_path):
    out = tmp_path / "out"
    arguments = [endpoint, "--model-name", "tiny", "--data", str(kinds), "--out", str(out),
                 "--no-controls", "--limit", "1", "--rows", "category,mini-chartqa"]  # fmt: skip
    more = ["--max-new-tokens", "3000", "--stop", "\\n", "--stop", "END", "--system", "Be brief."]
    done = CliRunner().invoke(app, [*arguments, *more])
    assert done.exit_code == 0, done.output
    for sent in Endpoint.asked:  # of ours, and of a task that officially has 16
        first = {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
        assert sent["messages"][0] == first
        assert (sent["max_tokens"], sent["stop"]) == (3000, ["\n", "END"])
    result = json.loads((out / "rows.json").read_text())
    assert result["generation"]["system"] == "Be brief."
    assert "stop strings '\\n', 'END', system prompt 'Be brief.'" in (out / "table.md").read_text()
    asked = len(Endpoint.asked)
    for change in (["--system", "Be long."], ["--stop", "\\t"], ["--max-new-tokens", "3001"], []):
        CliRunner().invoke(app, [*arguments, *more, *change])
        assert len(Endpoint.asked) == asked + (2 if change else 0)
        asked = len(Endpoint.asked)
    wrong = CliRunner().invoke(app, [*arguments, "--dtype", "float16"])
    assert wrong.exit_code == 2
    assert "for the server of an endpoint to set" in wrong.output


def test_a_model_of_transformers_is_loaded_as_wanted_or_refused(llava):
    plain, half = open_model(f"hf:{llava}"), open_model(f"hf:{llava}", dtype="bfloat16")
    loaded = [opened.answerer.loaded for opened in (plain, half)]
    assert loaded == [{"dtype": "float32"}, {"dtype": "bfloat16"}]
    assert plain.weights != half.weights
    assert half.answerer([[user("What?")]], Generation(2))
    with pytest.raises(ValueError, match=r"--max-pixels: .* takes no such size \(CLIPImage"):
        open_model(f"hf:{llava}", max_pixels=9)
    assert open_model(f"hf:{llava}", system="Be brief.").answerer.system == "Be brief."


def test_sizes_and_system_prompts_that_would_be_lost_are_refused():
    from transformers import Qwen2VLImageProcessor

    def template(asked, **_):
        return "".join(p["text"] for m in asked if m["role"] == "user" for p in m["content"])

    sized = SimpleNamespace(image_processor=Qwen2VLImageProcessor(), apply_chat_template=template)
    check("x", sized, {"min_pixels": 3136, "max_pixels": 50176}, "")
    with pytest.raises(ValueError, match="--system: the chat template of x leaves it out"):
        check("x", sized, {}, "Be brief.")
