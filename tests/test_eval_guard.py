"""Guard models: how their answers are read, and the figures of the published evaluation."""

import json

import pytest
from typer.testing import CliRunner

from data_shards.sources.verdicts import VALUES, Verdicts, verdicts_of
from eval.answering.answerer import Answerer
from eval.cli import app
from eval.run import evaluate
from eval.scoring.guard import TASKS, averages, f1, predicted, tally
from eval.suites.guard import ROWS, SETS

REASONED = (
    "# Task 1\n\n## Reasoning Step 1\nRequest: harmful, it seems.\n" + "x " * 200 + "\n---\n\n"
)


def test_what_answers_say_is_what_was_written():
    for request in VALUES["Request"]:
        for completion in VALUES["Completion"]:
            for response in VALUES["Response"]:
                said = Verdicts(request, completion, response)
                assert verdicts_of(REASONED + said.lines) == said
                assert verdicts_of(said.lines.upper()) == said


@pytest.mark.parametrize(
    ("output", "request_", "response"),
    [("", None, None), ("Request: unharmful", "unharmful", None),
     ("Request: harmfully\nResponse: harmful", None, "harmful"),
     ("Request: maybe", None, None),
     ("Request: harmful\nRequest: unharmful", None, None),
     ("Request: harmful" + " " * 300, None, None)],
)  # fmt: skip
def test_what_cannot_be_read_is_none(output, request_, response):
    assert verdicts_of(output) == (request_, None, response)


@pytest.mark.parametrize("task", TASKS)
def test_f1_by_hand(task):
    """Of a confusion matrix 3, 1, 2, 4: 2 · 3 / (2 · 3 + 1 + 2)."""
    yes, no = VALUES[TASKS[task]]
    pairs = [(yes, yes)] * 3 + [(no, yes)] * 1 + [(yes, no)] * 2 + [(no, no)] * 4
    assert f1(task, pairs) == pytest.approx(100 * 6 / 9)
    assert f1(task, [(no, no)]) is None


@pytest.mark.parametrize("expected", ["harmful", "unharmful"])
def test_what_cannot_be_read_is_wrong_once_whatever_was_expected(expected):
    assert tally("prompt", expected, None) == (0.0, 1.0)
    right = [("harmful", "harmful")]
    other = {"harmful": "unharmful", "unharmful": "harmful"}[expected]
    assert f1("prompt", [*right, (expected, None)]) == f1("prompt", [*right, (expected, other)])


def test_means_are_weighted_by_samples_and_the_tasks_plain():
    sets = {"a": ("prompt", 80.0, 30), "b": ("prompt", 60.0, 10), "c": ("response", 50.0, 1)}
    assert averages(sets) == {"prompt": 75.0, "response": 50.0}
    assert averages(sets | {"d": ("refusal", 40.0, 7)})["tasks"] == pytest.approx(55)


@pytest.fixture
def folder(tmp_path):
    """Hold two of the sets: one of prompts, and WildGuardTest with all labels."""
    prompts = [{"prompt": f"P{n}", "label": "harmful" if n % 2 else "unharmful"} for n in range(6)]
    whole = [
        {"prompt": f"W{n}", "response": f"R{n}", "prompt_harm_label": VALUES["Request"][n % 2],
         "response_refusal_label": VALUES["Completion"][n % 2] if n else None,
         "response_harm_label": VALUES["Response"][n % 2]}
        for n in range(4)
    ]  # fmt: skip
    (tmp_path / "Aegis.json").write_text(json.dumps(prompts))
    (tmp_path / "wildguardtest.jsonl").write_text("\n".join(map(json.dumps, whole)))
    return tmp_path


def test_the_suite_asks_what_is_there_and_names_what_is_not(folder, tmp_path):
    def answer(batch, generation, keys):
        assert generation.stop == ()
        return [REASONED + Verdicts("harmful", "refusal", "harmful").lines for _ in batch]

    result = evaluate(Answerer(answer, lambda m: 1), "w", "guard", folder, tmp_path / "out")
    rows = {row["name"]: row for row in result["rows"]}
    assert len(rows) == len(ROWS) == sum(map(len, SETS.values())) == 13
    aegis = rows["prompt_Aegis"]
    assert (aegis["score"], aegis["n"]) == (pytest.approx(100 * 6 / 9), 6)
    assert aegis["chance"] == aegis["score"] and aegis["ci_low"] < aegis["score"]
    assert rows["refusal_WildGuardTest"]["n"] == 3  # one has no such label
    assert "has no ToxicChat.jsonl" in rows["prompt_ToxicChat"]["missing"]


def test_predictions_of_others_are_scored(folder):
    rows = json.loads((folder / "Aegis.json").read_text())
    outputs = ["harmful", "harmful", "unharmful", "harmful", "?", "?"]
    for row, said in zip(rows, outputs, strict=True):
        row["predict"] = REASONED + f"Request: {said}"
    path = folder / "Aegis.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    result = CliRunner().invoke(app, ["guard", "--answers", str(path)])
    assert result.exit_code == 0, result.output
    # two found, one missed ("?"), two false alarms (one "?")
    assert f"{100 * 4 / 7:.2f}" in result.output and "prompt, weighted" in result.output
    record = {"instruction": "I", "input": "Human user:\nx", "predict": rows[0]["predict"],
              "output": REASONED + Verdicts("harmful", "refusal", "unharmful").lines}  # fmt: skip
    assert predicted("refusal", record["output"]) == "refusal"
    (folder / "mine.jsonl").write_text(json.dumps(record))
    result = CliRunner().invoke(app, ["guard", "--answers", str(folder / "mine.jsonl")])
    assert all(task in result.output for task in TASKS)


@pytest.mark.parametrize(
    ("text", "words"),
    [("[", "not JSON"), ("[1]", "a list of objects"), ("[]", "row 1 has no prediction"),
     ('[{"predict": "x"}, {}]', "row 2 has no prediction"),
     ('[{"predict": "x", "label": "bad"}]', "no row has a label for any of prompt")],
)  # fmt: skip
def test_files_that_are_none_are_refused(tmp_path, text, words):
    (tmp_path / "x.json").write_text(text)
    result = CliRunner().invoke(app, ["guard", "--answers", str(tmp_path / "x.json")])
    assert result.exit_code == 2 and words in " ".join(result.stderr.split())
