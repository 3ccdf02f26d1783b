"""No text of an answer can lose a row."""

import importlib.util
import json
from pathlib import Path

import pytest

from eval.answering.answerer import Answerer
from eval.bench.life import write_pictures
from eval.lmms.official import Official
from eval.run import evaluate
from eval.suites.registry import SUITES

spec = importlib.util.spec_from_file_location("eval_rows", Path(__file__).with_name("eval_rows.py"))
odd = importlib.util.module_from_spec(spec)
spec.loader.exec_module(odd)
ODD = odd.ODD
ROWS = [row.name for row in SUITES["mini"].rows if isinstance(row, Official)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("row", ROWS)
def test_odd_answers_lose_no_row_and_stay_as_they_are(row, pictures, tmp_path, offline):
    def answer_batch(batch, generation, keys):
        return [ODD[(first + n) % len(ODD)] for n in range(len(batch))]

    first = 0
    given = set()
    for first in range(0, len(ODD), 12):
        out = tmp_path / str(first)
        answerer = Answerer(answer_batch, lambda messages: 1, max_batch=12, token_budget=10**6)
        result = evaluate(
            answerer, "w", "mini", pictures, out, rows=[row], controls=False, limit=12
        )
        (line,) = result["rows"]
        assert line["missing"] == "", line["missing"]
        assert line["unanswered"] == 0
        lines = [json.loads(text) for text in (out / "answers.jsonl").read_text().split("\n")[:-1]]
        given |= {answer["answer"] for answer in lines}
        assert set(answerer.store.answers.values()) <= set(ODD)
    whole = {text for text in ODD if len(text) < 10_000}
    assert len(whole & given) > len(whole) - 5, whole - given
