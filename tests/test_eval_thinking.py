"""What thinking longer is worth, and that every answer's thinking keeps to its budget."""

import json

import pytest
from lxml import html
from typer.testing import CliRunner

from data_shards.shards.sample import Sample
from data_shards.shards.write import write_shards
from eval.answering.reply import Reply
from eval.answering.store import AnswerStore
from eval.cli import app
from eval.scoring.compute import Run, control, performance, scaling
from omni.generation.sampling import Sampler
from omni.generation.settings import Generation
from omni.processing.messages import assistant, image, user

QUESTIONS = 6


def test_the_three_figures_by_hand():
    points = [(2000, 0.4), (1000, 0.2), (4000, 0.5)]
    assert scaling(points) == pytest.approx((2e-4 + 1e-4 + 5e-5) / 3)
    assert performance(points) == 0.5
    assert scaling([(8, 1.0), (8, 2.0)]) is None and scaling([(8, 1.0)]) is None
    runs = [Run(4, [0, 4, 5], 0, 4, 10.0), Run(8, [3], 4, 8, 10.0)]
    assert control(runs) == 50 and runs[0].mean == 3
    assert control([]) is None


def test_a_reply_keeps_its_thinking_in_the_store(tmp_path):
    AnswerStore(tmp_path, "w").add({"a": Reply("x", thinking=7), "b": Reply("y")})
    found = AnswerStore(tmp_path, "w")
    assert (found["a"].thinking, found["b"].thinking) == (7, 0)


@pytest.fixture
def ask(tiny_checkpoint, tmp_path, make_picture):
    """Return a function that measures questions with and without a picture."""
    facts = {"source": "sums", "license": "own", "schema": 1}
    write_shards([
        Sample([user(*([image("img0.png")] if n % 2 else []), f"What is {n}?"), assistant("11")],
               {"img0.png": make_picture(n)} if n % 2 else {}, facts | {}, split="heldout")
        for n in range(QUESTIONS)
    ], tmp_path / "sums")  # fmt: skip

    def run(*more: str):
        return CliRunner().invoke(app, [
            "thinking", str(tiny_checkpoint), "--heldout", str(tmp_path / "sums"), "--out",
            str(tmp_path / "out"), "--max-new-tokens", "2", "--score", "contained", *more,
        ])  # fmt: skip

    return run


def test_a_scripted_policy_that_needs_time_has_control_and_scaling(ask, tmp_path, monkeypatch,
                                                                        loads_nothing):  # fmt: skip
    """It answers 11 after twenty tokens of thinking, and 00 before."""
    call = Sampler.__call__

    def speak(self, input_ids, scores):
        step = len(self.steps)
        # "<think>" is 7 bytes, "</think>" 8, and the final words are 14
        scores[:] = 0
        scores[:, 16 if step >= 7 + 20 + 8 + 14 else 15] = 9.0
        return call(self, input_ids, scores)

    monkeypatch.setattr(Sampler, "__call__", speak)
    result = ask("--budgets", "0,4,20")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out" / "thinking.json").read_text())
    assert found["control"] == 100
    assert [run["tokens"] for run in found["runs"]] == [0, 4, 20]
    assert [run["answers"] for run in found["runs"]] == [QUESTIONS] * 3
    assert found["runs"][2]["score"] == found["performance"] == 100
    assert found["scaling"] > 0
    assert "Control 100.0 %" in result.output
    page = html.document_fromstring((tmp_path / "out" / "thinking.html").read_text())
    assert loads_nothing(page) and len(page.xpath("//svg//circle")) == 3
    assert "Control 100.0 %" in page.text_content()
    before = (tmp_path / "out" / "thinking.json").read_bytes()
    monkeypatch.setattr(Sampler, "__call__", None)  # all is in the store
    assert ask("--budgets", "0,4,20").exit_code == 0
    assert (tmp_path / "out" / "thinking.json").read_bytes() == before


@pytest.mark.parametrize(
    ("more", "words"),
    [(["--budgets", "4,x"], "--budgets 4,x: write numbers of tokens"),
     (["--budgets", ""], "write numbers of tokens"),
     (["--marker", "<tihnk>"], "did you mean '<think>'"),
     (["--wait", ""], "thinking.wait must be words")],
)  # fmt: skip
def test_budgets_that_cannot_be_are_refused(ask, more, words):
    result = ask(*more)
    assert result.exit_code == 2 and words in " ".join(result.stderr.split())


@pytest.mark.parametrize("words", [["thinking", "openai:http://localhost:1"],
                                   ["--model", "openai:http://localhost:1", "--thinking", "8",
                                    "--model-name", "x"]])  # fmt: skip
def test_an_endpoint_has_no_budget(words):
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "an endpoint chooses its tokens itself" in " ".join(result.stderr.split())


def test_thinking_counts_where_batches_are_planned():
    assert Generation(8, thinking={"max": 30}).longest == 38
    assert Generation(8).longest == 8
