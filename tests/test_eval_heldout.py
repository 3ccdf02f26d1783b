"""Held-out data of one's own, and a task of one's own: from files to a table, scored rightly."""

import json
import sys

import pytest
from typer.testing import CliRunner

from data_shards.shards.sample import Sample
from data_shards.shards.write import write_shards
from eval.answering.answerer import Answerer
from eval.cli import app
from eval.rows.heldout import prompt_and_expected
from eval.rows.own import MissingDataError
from eval.run import evaluate
from eval.scoring.right import Outcome
from eval.suites.mine import load_mine, shards_of
from eval.suites.registry import heldout_suite
from eval.suites.scores import named_score, options
from omni.processing.messages import assistant, audio, image, media_refs, user

QUESTION = "Which animal is it?\nA. a dog\nB. a cat\nC. an owl"


def sample(source: str, asked: list, answer: str, parts: dict | None = None, **meta) -> Sample:
    facts = {"source": source, "license": "own", "schema": 1, **meta}
    return Sample([user(*asked), assistant(answer)], parts or {}, facts, split="heldout")


@pytest.fixture
def data(tmp_path, make_picture, make_sound):
    pictures, sounds = [make_picture(k) for k in range(4)], [make_sound(0.2, 300 + 90 * k)
                                                            for k in range(4)]  # fmt: skip
    samples = [
        *(sample("zoo", [image("img0.png"), QUESTION], "ABCA"[k], {"img0.png": pictures[k]})
          for k in range(4)),
        *(sample("counts", [image("img0.png"), "How many?"], f"{k}.5", {"img0.png": pictures[k]})
          for k in range(4)),
        *(sample("talks", [audio("aud0.wav")], f"the word {k}", {"aud0.wav": sounds[k]},
                 kind="transcription") for k in range(4)),
        *(sample("words", [f"What is opposite {k}?"], f"The answer {k}.") for k in range(3)),
        Sample([user("no answer")], {}, {"source": "words", "license": "own", "schema": 1},
               split="heldout"),
    ]  # fmt: skip
    write_shards(samples, tmp_path / "mine")
    return tmp_path / "mine"


def knowing(suite, wrong=lambda messages: None) -> Answerer:
    """One who knows the answers of what it sees as it is."""
    docs = [doc for row in suite.rows for doc in row.docs(None)]
    key = {repr(doc.messages): doc.expected for doc in docs}

    def answer(batch, generation, keys):
        return [wrong(m) or key.get(repr(m), "nothing") for m in batch]

    return Answerer(answer, cost=lambda messages: 1)


def test_each_source_is_a_row_with_its_score_and_its_controls(data, tmp_path):
    suite = heldout_suite(data)
    result = evaluate(knowing(suite), "w", suite, None, tmp_path / "out")
    rows = {row["name"]: row for row in result["rows"]}
    assert {name: row["how"] for name, row in rows.items()} == {
        "zoo": "own (choice)", "counts": "own (numeric)", "talks": "own (wer)",
        "words": "own (exact)",
    }  # fmt: skip
    assert {row["score"] for row in rows.values()} == {100}
    assert [rows[name]["n"] for name in ("zoo", "words")] == [4, 3]
    assert all(row["ci_low"] < 99 for row in rows.values())
    assert all(row["ci_high"] == pytest.approx(100) for row in rows.values())
    assert rows["zoo"]["chance"] == pytest.approx(100 / 3)
    assert set(rows["zoo"]["controls"]) == {"blind", "shuffled_images"}
    assert rows["zoo"]["controls"]["blind"]["score"] == 0
    assert rows["zoo"]["controls"]["shuffled_images"]["score"] <= 50  # two of four say A
    assert set(rows["talks"]["controls"]) == {"shuffled_audio"}
    assert rows["words"]["controls"] == {}
    assert "must end with the assistant's answer" in rows["words"]["details"]["left_out"][0]
    assert "15 held-out samples" in result["images"]
    lines = [json.loads(x) for x in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    shown = [line for line in lines if line["row"] == "zoo" and line["condition"] == "normal"]
    assert [line["question"] for line in shown] == [QUESTION] * 4


def test_only_what_has_a_picture_is_shuffled(tmp_path, make_picture):
    samples = [sample("mixed", ["Say a word."], "word")]
    samples += [
        sample("mixed", [image("img0.png"), f"What {k}?"], f"it {k}", {"img0.png": make_picture(k)})
        for k in range(3)
    ]
    write_shards(samples, tmp_path / "mine")
    suite, seen = heldout_suite(tmp_path / "mine"), []
    answerer = knowing(suite, wrong=lambda messages: seen.append(messages))
    (row,) = evaluate(answerer, "w", suite, None, tmp_path / "out")["rows"]
    assert row["controls"]["shuffled_images"]["score"] == 25
    pictures = [ref for messages in seen for _, ref in media_refs(messages)]
    assert {pictures.count(picture) for picture in pictures} == {2}  # as it is, and elsewhere


def test_shards_that_are_not_held_out_are_named_so(data, tmp_path):
    (shard,) = data.glob("heldout-*.tar")
    other = tmp_path / "other" / "deep"
    other.mkdir(parents=True)
    shard.rename(other / "some.tar")
    assert shards_of(tmp_path / "other") == shards_of(other / "some.tar") == [other / "some.tar"]
    assert "NOT marked as held out" in load_mine(tmp_path / "other").label
    with pytest.raises(FileNotFoundError, match="no shard"):
        shards_of(data)


def test_the_thinking_of_a_real_answer_is_not_expected():
    real = assistant("<think>3+0\n3</think>\nFinal Answer: 3")
    asked = [user("0+3+0")]
    found = prompt_and_expected(Sample([*asked, real], {}, {}))
    assert found == (asked, "Final Answer: 3")


@pytest.mark.parametrize(
    ("name", "answer", "expected", "points"),
    [
        ("exact", "The Cat.", "cat", 1), ("exact", "a cat sat", "cat", 0),
        ("exact", "猫。", "猫", 1),
        ("exact", "-5", "5", 0), ("exact", "1.5", "1 5", 0), ("exact", "1,500", "1500", 1),
        ("contained", "It is a black cat, I think", "Black cat", 1),
        ("contained", "concatenate", "cat", 0), ("contained", "这是一只猫", "猫", 1),
        ("contained", "cat black", "black cat", 0), ("contained", "anything", "", 0),
        ("numeric", "about 1,200 of them", "1200", 1), ("numeric", "It is 2 + 3 = 5", "5.0", 1),
        ("numeric", "-5", "5", 0), ("numeric", "5.01", "5", 0), ("numeric", "five", "5", 0),
        ("numeric", "共14个", "14", 1), ("numeric", "1.2e3", "1200", 1), ("numeric", "0", "0", 1),
        ("numeric:0.05", "104", "100", 1), ("numeric:0.05", "106", "100", 0),
        ("choice", "(B)", "B", 1), ("choice", "It is a cat.", "B", 1), ("choice", "C", "an owl", 1),
        ("choice", "a dog or a cat", "B", 0), ("choice", "", "A", 0), ("choice", "答案是B", "B", 1),
        ("wer", "the cat sat", "the cat sat", 1), ("wer", "the cat", "the cat sat on it", 0.4),
        ("wer", "a b c d e f", "a", 0), ("cer", "今天天气", "今天天晴", 0.75),
        ("json:dumps", "x", "y", None), ("tests_score:half", "x", "y", 0.5),
    ],
)  # fmt: skip
def test_how_an_answer_is_compared(name, answer, expected, points, tmp_path, monkeypatch):
    (tmp_path / "tests_score.py").write_text("def half(answer, expected):\n    return 0.5\n")
    monkeypatch.chdir(tmp_path)
    outcome = Outcome("0", QUESTION, expected, answer, 0.0)
    if points is None:
        with pytest.raises((ValueError, TypeError)):
            named_score(name)([outcome])
        return
    scored = named_score(name)([outcome])
    assert scored.score == pytest.approx(100 * points)
    assert scored.outcomes[0].correct == pytest.approx(points)
    sys.modules.pop("tests_score", None)


def test_an_error_rate_is_of_all_words_not_a_mean_of_means():
    pairs = [("a b c", "a b c d e f g h i"), ("x", "x")]
    scored = named_score("wer")([Outcome(str(k), "", b, a, 0.0) for k, (a, b) in enumerate(pairs)])
    assert scored.details["wer"] == pytest.approx(60)
    assert scored.score == pytest.approx(40)


@pytest.mark.parametrize(
    ("question", "found"),
    [
        (QUESTION, ["a dog", "a cat", "an owl"]), ("Which? (A) dog (B) cat", ["dog", "cat"]),
        ("Which?\n(A) dog\n(B) cat", ["dog", "cat"]), ("Which?\nA) dog\nB) cat", ["dog", "cat"]),
        ("Which?\nA：狗\nB：猫", ["狗", "猫"]), ("B. only\nC. these", []), ("What is it?", []),
    ],
)  # fmt: skip
def test_options_of_a_question(question, found):
    assert options(question) == found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--score", "exactly"], "no score 'exactly'"),
        (["--score", "zoos=exact"], "no source 'zoos'"),
        (["--score", "nowhere:to_be"], "cannot be imported"),
        (["--rows", "zo"], "unknown row zo"),
        (["--task", "somewhere"], "give one of them"),
    ],
)
def test_what_is_wrong_is_said_before_the_model_is_opened(words, said, data, tmp_path):
    done = CliRunner().invoke(
        app, [str(tmp_path / "none"), "--heldout", str(data), "--out", str(tmp_path / "o"), *words]
    )
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_nothing_to_ask_is_an_error(tmp_path):
    empty = Sample([user("no answer")], {}, {"source": "x", "license": "own", "schema": 1},
                   split="heldout")  # fmt: skip
    write_shards([empty], tmp_path / "mine")
    with pytest.raises(MissingDataError, match="nothing can be asked"):
        heldout_suite(tmp_path / "mine")


def test_the_command_measures_a_checkpoint_on_them(data, tiny_checkpoint, tmp_path):
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app,
        [str(tiny_checkpoint), "--heldout", str(data), "--out", str(out), "--rows", "zoo,counts",
         "--score", "counts=numeric:0.1", "--max-new-tokens", "2"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    result = json.loads((out / "rows.json").read_text())
    assert result["suite"] == "heldout"
    assert [row["how"] for row in result["rows"]] == ["own (choice)", "own (numeric:0.1)"]
    assert all(row["blind"] is not None for row in result["rows"])


@pytest.fixture
def task(tmp_path):
    """A folder with a task of one's own in lmms-eval's form, and its docs."""
    folder = tmp_path / "capitals"
    folder.mkdir()
    docs = [{"question": f"Question {k}", "answer": f"city {k}"} for k in range(4)]
    (folder / "docs.json").write_text(json.dumps(docs))
    (folder / "utils.py").write_text(
        "def visual(doc):\n    return []\n\n\n"
        "def text(doc, lmms_eval_specific_kwargs=None):\n    return doc['question']\n\n\n"
        "def process(doc, results):\n"
        "    return {'right': float(doc['answer'] in results[0].lower())}\n"
    )
    (folder / "base.yaml").write_text(
        "dataset_path: json\n"
        f"dataset_kwargs:\n  data_files: {{test: {folder / 'docs.json'}}}\n"
        "output_type: generate_until\ntest_split: test\n"
        "doc_to_visual: !function utils.visual\ndoc_to_text: !function utils.text\n"
        "doc_to_target: answer\nprocess_results: !function utils.process\n"
        "generation_kwargs: {max_new_tokens: 3}\n"
        "metric_list:\n  - {metric: right, aggregation: mean, higher_is_better: true}\n"
    )
    (folder / "capitals.yaml").write_text("include: base.yaml\ntask: capitals\n")
    return folder


def test_a_task_of_ones_own_is_never_official(task, tmp_path):
    answers = {f"Question {k}": f"It is City {k}." for k in range(3)}

    def answer(batch, generation, keys):
        return [answers.get(messages[0]["content"][-1]["text"], "?") for messages in batch]

    result = evaluate(Answerer(answer, lambda m: 1), "w", f"task:{task}", None, tmp_path / "out")
    (row,) = result["rows"]
    assert (row["name"], row["missing"]) == ("capitals", "")
    assert (row["score"], row["n"], row["how"]) == (75, 4, "own task")
    assert row["ci_low"] < 75 < row["ci_high"]
    assert "official" not in (tmp_path / "out" / "table.txt").read_text()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (None, "no such folder"), ({}, "no yaml file here names a task"),
        ({"a.yaml": "task: a\n"}, "has no metric_list"), ({"a.yaml": "task: [\n"}, "is no yaml"),
    ],
)  # fmt: skip
def test_a_folder_without_a_task_is_refused(files, said, tmp_path):
    if files is not None:
        (tmp_path / "t").mkdir()
        for name, text in files.items():
            (tmp_path / "t" / name).write_text(text)
    done = CliRunner().invoke(app, [str(tmp_path), "--task", str(tmp_path / "t")])
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
