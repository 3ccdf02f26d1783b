"""Official rows in a process of their own: the same results, and it never outlives its parent."""

import subprocess
import sys

import pytest

from eval.answering.answerer import Answerer, key_of
from eval.bench.life import write_pictures
from eval.harness import Harness
from eval.lmms.judge import Judge
from eval.lmms.official import Official
from eval.run import evaluate
from eval.suites.registry import SUITES
from omni.generation.settings import Generation

MINI = [row.name for row in SUITES["mini"].rows if isinstance(row, Official)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def harness(data):
    with Harness("mini", data) as harness:
        yield harness


def digests(batch, generation, keys):
    """Answers that tell all words and pixels apart; to some questions there is none."""
    found = [key_of(key, generation) for key in keys]
    return [ValueError("gone") if digest < "2" else digest for digest in found]


def asking(answer_batch=digests, **options):
    return Answerer(answer_batch, lambda messages: 50, **options)


def results(answerer, data, out, **options):
    result = evaluate(answerer, "w", "mini", data, out, limit=2, **options)
    del result["seconds"]
    return result, (out / "answers.jsonl").read_text(), (out / "units.json").read_text()


@pytest.mark.slow
def test_results_are_those_of_one_process(harness, data, tmp_path):
    rows = [*MINI, "category"]
    asked = {"rows": rows, "controls": False}
    here = results(asking(), data, tmp_path / "here", **asked)
    there = results(asking(), data, tmp_path / "there", **asked, run_row=harness.run)
    assert here == there
    assert here[0]["problems"]


def test_a_judge_is_asked_in_this_process(harness, data, tmp_path):
    rows = ["mini-mmbench_en", "mini-mathvista"]

    def judge():
        def answer_batch(batch, generation, keys):
            return ["A" if generation == Generation(256) else "?"] * len(batch)

        return Judge(asking(answer_batch), "wise", "j")

    here = results(asking(), data, tmp_path / "here", rows=rows, judge=judge())
    judging = judge()
    there = results(
        asking(), data, tmp_path / "there", rows=rows, judge=judging, run_row=harness.run
    )
    assert here == there
    assert judging.answerer.store.answers  # asked and kept here
    assert not judging.replies  # worked with there


def test_errors_come_back(harness, data, tmp_path):
    deaf = results(asking(reads=frozenset()), data, tmp_path, rows=MINI[:2], run_row=harness.run)
    assert "the model takes none" in deaf[0]["rows"][1]["missing"]

    def answer_batch(batch, generation, keys):
        raise RuntimeError("a fault of the model")

    with pytest.raises(RuntimeError, match="a fault of the model"):
        results(asking(answer_batch), data, tmp_path, rows=MINI[:1], run_row=harness.run)
    again = results(asking(), data, tmp_path, rows=MINI[:1], run_row=harness.run)
    assert again[0]["rows"][0]["n"] == 2  # the process goes on


@pytest.mark.slow
def test_the_end_of_the_other_process_is_told(data, tmp_path):
    def answer_batch(batch, generation, keys):
        harness.process.kill()
        harness.process.join()
        return ["A"] * len(batch)

    with Harness("mini", data) as harness, pytest.raises(RuntimeError, match="ended with -9"):
        results(asking(answer_batch), data, tmp_path, rows=MINI[:1], run_row=harness.run)


def test_it_ends_with_a_killed_parent(data):
    code = f"""
from pathlib import Path
from eval.harness import Harness
if __name__ == "__main__":
    harness = Harness("mini", Path({str(data)!r}))
    harness.start()
    print("started", flush=True)
    harness.process.join()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"started\n"
        parent.kill()
        parent.communicate(timeout=20)  # whoever can still print is waited for
