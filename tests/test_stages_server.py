"""Rollouts that a vLLM server draws: its weights, its tokens, and what it must not get wrong.

The server is one of ours that answers as vLLM does; with VLLM_PYTHON it is vLLM itself.
"""

import base64
import json
import os
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import pytest
import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM

from data_shards.environments import Verdict
from omni.entry import EntryError
from omni.generation.answer import complete
from omni.generation.settings import Generation
from omni.load import load
from omni.processing.messages import audio, image, user
from omni.serve.export import write
from stages.objectives import make_objective
from stages.objectives.policy import score_labels
from stages.recipe.rollout import RolloutConfig
from stages.rollouts.server import Server, ServerError
from stages.rollouts.world import environment_of
from stages.training.rollouts import RolloutSteps

MEDIA: dict[str, bytes] = {}


class Shown:
    """Shows what is in MEDIA and pays for vowels."""

    name = "shown"

    def state(self, seed):
        return {"seed": seed}

    def prompt(self, state):
        parts = [image(name) if name.startswith("img") else audio(name) for name in MEDIA]
        return [user(*parts, f"Say {state['seed']}.")], MEDIA

    def verify(self, state, answer):
        return Verdict(sum(letter in "aeiou" for letter in answer), False, False, "no")

    def solution(self, state):
        return "a"


class _Fake(BaseHTTPRequestHandler):
    """Answers with the weights that it was last told to read."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._send({"data": [{"id": "served", "object": "model", "root": str(self.server.folder)}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            if self.path == "/collective_rpc":
                assert body == {"method": "reload_weights"}
                if not server.stale:
                    server.read()
                return self._send({"results": [None]})
            if self.path.startswith("/reset_"):
                return self._send({"success": True})
            self._send(self._answers(body))

    def _answers(self, body):
        model, processor = self.server.model, self.server.processor
        assert body["return_token_ids"] and (body["top_p"], body["top_k"]) == (1, 0)
        if self.path == "/v1/completions":
            ids = torch.tensor([body["prompt"]])
            batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        else:
            messages = [{"role": m["role"], "content": [_ours(p) for p in m["content"]]}
                        for m in body["messages"]]  # fmt: skip
            batch = processor.pad([processor.encode(messages, generation=True)])
        how = Generation(body["max_tokens"], n=body["n"], seed=body["seed"],
                         temperature=body["temperature"])  # fmt: skip
        choices = []
        for found in complete(model, processor, batch, how, keys=["x"]):
            ids, logps = found.ids.tolist(), found.logprobs.tolist()
            told = {"token_logprobs": logps, "content": [
                {"token": "", "logprob": value, "top_logprobs": []} for value in logps
            ]}  # fmt: skip
            choices.append({"token_ids": ids, "logprobs": told, "finish_reason": found.finish})
        prompt = batch["input_ids"][0].tolist()
        return {"choices": choices, "prompt_token_ids": prompt[self.server.lost :]}

    def _send(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


class _Server(ThreadingHTTPServer):
    """Serves a folder: an omni model, or its LLM alone."""

    def __init__(self, checkpoint, folder):
        super().__init__(("127.0.0.1", 0), _Fake)
        self.folder, self.lock, self.stale, self.lost = folder, threading.Lock(), False, 0
        self.model, self.processor = load(checkpoint)
        self.read()

    def read(self):
        if self.model.config.modalities:
            self.model, self.processor = load(self.folder)
        else:
            llm = AutoModelForCausalLM.from_pretrained(self.folder).state_dict()
            self.model.language_model.load_state_dict(llm)


def _ours(part):
    if part["type"] == "text":
        return part
    kind = part["type"].removesuffix("_url")
    return {"type": kind, kind: base64.b64decode(part[part["type"]]["url"].split(",")[1])}


@pytest.fixture(params=["sees and hears"])
def served(request, make_checkpoint, specs, tmp_path):
    """Hold a checkpoint, its export, and the address of what answers with it."""
    both = {"vision": specs.vision, "audio": specs.audio}
    checkpoint = make_checkpoint(**(both if request.param == "sees and hears" else {}))
    folder = tmp_path / "served"
    write(checkpoint, folder)
    if python := os.environ.get("VLLM_PYTHON"):
        yield from _vllm(python, checkpoint, folder)
        return
    fake = _Server(checkpoint, folder)
    threading.Thread(target=fake.serve_forever, daemon=True).start()
    yield SimpleNamespace(checkpoint=checkpoint, folder=folder, fake=fake,
                          address=f"http://127.0.0.1:{fake.server_port}/v1")  # fmt: skip
    fake.shutdown()


def _vllm(python, checkpoint, folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_SERVER_DEV_MODE": "1", "HF_HUB_OFFLINE": "1",
                "PYTHONPATH": str(Path(__file__).parent.parent)}  # fmt: skip
    with (folder.parent / "log").open("w") as log:
        running = subprocess.Popen(
            [python, "-m", "vllm.entrypoints.openai.api_server", "--model", folder,
             "--trust-remote-code", "--logprobs-mode", "processed_logprobs", "--dtype", "float32",
             "--max-model-len", "512", "--enforce-eager", "--port", str(port)],
            stdout=log, stderr=log, env=os.environ | settings, cwd=folder.parent,
        )  # fmt: skip
    try:
        _wait(running, f"http://127.0.0.1:{port}/health", folder.parent / "log")
        yield SimpleNamespace(checkpoint=checkpoint, folder=folder, fake=None,
                              address=f"http://127.0.0.1:{port}/v1")  # fmt: skip
    finally:
        running.terminate()
        running.wait()


def _wait(running, url, log):
    for _ in range(600):
        try:
            with urlopen(url):
                return
        except OSError:
            assert running.poll() is None, log.read_text()[-3000:]
            time.sleep(1)
    raise AssertionError(log.read_text()[-3000:])


def _steps(served, processor, **more):
    usual = {"prompts": 3, "group": 4, "max_new_tokens": 6, "server": served.address}
    config = RolloutConfig({"kind": f"{__name__}:Shown"}, **(usual | more))
    return RolloutSteps(environment_of(config), config, processor, make_objective("grpo"), 0,
                        Accelerator(cpu=True), 0, 512)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("shown", ["text", "image", "both"])
def test_a_server_draws_with_the_weights_of_every_rollout(
    served, make_picture, make_sound, monkeypatch, shown
):
    """After the weights have moved, its log-probs are those of the moved weights."""
    media = {"img0.png": make_picture(1), "aud0.wav": make_sound(0.5)}
    found = {"text": {}, "image": {"img0.png": media["img0.png"]}, "both": media}[shown]
    monkeypatch.setitem(globals(), "MEDIA", found)
    model, processor = load(served.checkpoint)
    steps = _steps(served, processor, temperature=0.8)
    before = (served.checkpoint / "model.safetensors").read_bytes()
    drawn = []
    for number in range(2):
        step = steps.next(model)
        assert len(steps.groups) == 3 and all(len(g.episodes) == 4 for g in steps.groups)
        with torch.no_grad():
            _, labels, _ = score_labels(model, step.micro[0].tensors)
        off = float((labels.logps - labels.behaviour).expm1().abs().max())
        print(f"rollout {number} of {shown}: |ratio - 1| up to {off:.1e}")
        assert off < 1e-3
        drawn.append([e.attempts[0].ids for g in steps.groups for e in g.episodes])
        assert len({tuple(ids) for ids in drawn[-1]}) > 4  # answers of a group are not the same
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.05)
    assert (served.checkpoint / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("served", ["reads"], indirect=True)
def test_a_server_of_text_is_given_the_llm_alone(served):
    model, processor = load(served.checkpoint)
    steps = _steps(served, processor)
    for _ in range(2):
        step = steps.next(model)
        with torch.no_grad():
            _, labels, _ = score_labels(model, step.micro[0].tensors)
            assert (labels.logps - labels.behaviour).expm1().abs().max() < 1e-3
            for parameter in model.parameters():
                parameter.mul_(1.05)


def test_several_attempts_go_on_from_the_tokens_that_were_drawn(served):
    model, processor = load(served.checkpoint)
    steps = _steps(served, processor, attempts=2)
    steps.next(model)
    assert any(len(e.attempts) == 2 for g in steps.groups for e in g.episodes)


def test_a_server_that_answers_otherwise_is_refused(served, make_picture, monkeypatch):
    model, processor = load(served.checkpoint)
    if not (fake := served.fake):
        pytest.skip("vLLM does what it is told")
    fake.stale = True
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    with pytest.raises(ServerError, match="a token away from the model's"):
        _steps(served, processor).next(model)
    fake.stale, fake.lost = False, 1
    monkeypatch.setitem(globals(), "MEDIA", {"img0.png": make_picture(1)})
    with pytest.raises(ServerError, match="other tokens of a prompt"):
        _steps(served, processor).next(model)
    fake.lost = 0
    with pytest.raises(ServerError, match="attempts is 1"):
        _steps(served, processor, attempts=2).next(model)


def test_a_server_that_is_not_there_is_named(omni_pair):
    with pytest.raises(ServerError, match="no server answers there"):
        Server("http://127.0.0.1:9/v1", omni_pair[1])


@pytest.mark.parametrize(
    ("options", "said"),
    [({"server": "localhost"}, "server is an address"),
     ({"server": "http://x/v1", "top_p": 0.9}, "top_p is 1 where a server draws")],
)  # fmt: skip
def test_what_a_server_does_not_tell_is_refused(options, said):
    with pytest.raises(EntryError, match=said):
        RolloutConfig("sums", **options)
