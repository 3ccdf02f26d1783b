"""Judged scores: official code, asking a judge that is here a small server."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from eval.answering.answerer import Answerer
from eval.bench.oracle import Oracle
from eval.cli import app
from eval.lmms import judge as judging
from eval.minisuite import build_minisuite
from eval.rows.heldout import HeldOut, Picture
from eval.run import evaluate
from eval.suites.registry import SUITES
from eval.suites.sources import Local

ROWS = ("mmbench_en", "mmbench_cn", "hallusionbench", "mathvista")
NUMBERED = {"A": "the first", "B": "the second", "C": "the third", "D": "the fourth"}


class Bench(BaseHTTPRequestHandler):
    """Replies as a judge would; what it was asked is kept."""

    asked: list[str] = []  # noqa: RUF012

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        prompt = prompt if isinstance(prompt, str) else prompt[0]["text"]
        self.asked.append(prompt)
        reply = self.judge(prompt)
        self.send_response(200 if reply is not None else 500)
        self.end_headers()
        message = {"choices": [{"message": {"content": reply}}]}
        self.wfile.write(json.dumps(message).encode())

    def judge(self, prompt: str) -> str | None:
        if "broken" in prompt[-200:]:
            return None
        if found := re.search(r"Answer: ([^\n]*)\nYour output: $", prompt):
            letters = {words: letter for letter, words in NUMBERED.items()}
            return letters.get(found[1], "I cannot tell")
        if "Prediction answer:" in prompt:
            reference, said = re.findall(r"(?:Reference|Prediction) answer: ?([^\n]*)", prompt)
            return "correct" if reference.startswith("Yes") == (said == "indeed") else "incorrect"
        if found := re.search(r"value is (.*), not 999999\n\nExtracted answer: $", prompt):
            return found[1]
        return "ready"

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address():
    with ThreadingHTTPServer(("127.0.0.1", 0), Bench) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


@pytest.fixture(scope="module")
def files(make_picture, tmp_path_factory):
    root, scratch = tmp_path_factory.mktemp("judged"), tmp_path_factory.mktemp("built")
    pictures = [
        Picture(f"{kind}{n}", kind, f"The {kind} number {n}.", make_picture(5 * k + n), "shard:key")
        for k, kind in enumerate(("animal", "food", "plant", "vehicle", "tool"))
        for n in range(5)
    ]
    held = HeldOut(pictures, source="stamps", digest="0" * 8)
    for row in SUITES["image10"].rows:
        if row.name in ROWS:
            made = build_minisuite(held, row.name, scratch, 2)
            (root / row.name).mkdir()
            made.rename(root / row.name / f"{row.benchmark.split}.parquet")
    return root


@pytest.fixture
def answerer(files, tmp_path):
    """A model that knows every truth and says it so that no rule can read it."""
    rows = [row for row in SUITES["image10"].rows if row.name in ROWS]
    oracle = Oracle(rows, Local(files), tmp_path / "oracle")

    def say(truth: str) -> str:
        if truth in ("Yes", "No"):
            return {"Yes": "indeed", "No": "by no means"}[truth]
        return NUMBERED.get(truth, f"value is {truth}, not 999999")

    return Answerer(lambda batch, *_: [say(oracle.answer(m)) for m in batch], lambda m: 1)


def run(answerer, files, out, judge=None, names=ROWS):
    result = evaluate(answerer, "w", "image10", files, out, rows=names, controls=False, judge=judge)
    return {row["name"]: row for row in result["rows"]}, result["problems"]


def test_a_judge_reads_what_no_rule_can(answerer, files, address, tmp_path):
    static, _ = run(answerer, files, tmp_path / "static")
    Bench.asked.clear()
    judge = judging.open_judge(address, "wise")
    judged, problems = run(answerer, files, tmp_path / "out", judge)
    for name in ROWS:
        assert static[name]["how"] == "static"
        assert judged[name]["how"] == "judged by wise"
        assert judged[name]["score"] == 100 > static[name]["score"], name
        assert "rule" not in judged[name]["details"]
    assert problems == []
    asked = len(Bench.asked)
    assert len(set(Bench.asked)) == asked  # nothing twice
    again, _ = run(answerer, files, tmp_path / "out", judging.open_judge(address, "wise"))
    assert again == judged
    assert len(Bench.asked) == asked + 1  # whether it is there: the rest was kept


def test_no_reply_is_wrong_named_and_not_drawn(files, address, tmp_path):
    broken = Answerer(lambda batch, generation, keys: ["broken"] * len(batch), lambda m: 1)
    judge = judging.open_judge(address, "wise", tries=1)
    rows, problems = run(broken, files, tmp_path, judge)
    for name in ROWS:
        assert rows[name]["score"] == 0, name
        assert rows[name]["details"]["unjudged"]
    assert len(problems) == sum(len(row["details"]["unjudged"]) for row in rows.values())
    assert problems[0].startswith("MMBench: judge wise: 0: EndpointError")


def test_what_had_no_reply_is_asked_again_and_named_again():
    replies = iter([ValueError("busy"), ValueError("busy"), "yes"])
    judge = judging.Judge(Answerer(lambda *_: [next(replies)], lambda m: 1), "wise", "w")

    def hear(of: str) -> tuple[str, list[str]]:
        before = len(judge.problems)
        text = judge.hear(lambda: judge.reply("Is it right?", 8), of)
        return text, judge.problems[before:]

    assert hear("One") == ("", ["One: judge wise: 0: ValueError: busy"])
    assert hear("Two") == ("", ["Two: judge wise: 0: ValueError: busy"])
    assert hear("Three") == ("yes", [])
    assert hear("Four") == ("yes", [])


def test_garbage_from_the_judge_is_wrong(files, address, tmp_path):
    odd = Answerer(lambda batch, generation, keys: ["hm"] * len(batch), lambda m: 1)
    judge = judging.open_judge(address, "wise")
    rows, problems = run(odd, files, tmp_path, judge, ["mmbench_en"])
    assert (rows["mmbench_en"]["score"], problems) == (0, [])


def test_a_judge_that_is_not_there_is_noticed_before_the_model_is_loaded(address, tmp_path):
    with pytest.raises(OSError, match="cannot be reached"):
        judging.open_judge("http://127.0.0.1:9/v1", "wise", tries=1)
    done = CliRunner().invoke(app, [str(tmp_path), "--suite", "image10", "--judge", address])
    assert done.exit_code == 2
    assert "--judge-model" in done.output


def test_a_judge_may_think(address, monkeypatch):
    monkeypatch.setattr(Bench, "judge", lambda self, prompt: "<think>The word is")
    judge = judging.open_judge(address, "wise")
    assert judge.problems == []
    monkeypatch.setattr(Bench, "judge", lambda self, prompt: "<think>One?</think>correct")
    scored = judge.hear(lambda: judge.reply("Is it?", 256), "x")
    assert (scored, judge.problems) == ("correct", [])
