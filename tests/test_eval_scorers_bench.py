"""The bench of the scorers, on a small stand-in for a checkout of VLMEvalKit."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eval.bench import scorers
from eval.bench.kit import ASKED, CHOICE, MATCHING, MATHVISTA, MISC, OCR, VQA, YES_NO, Kit
from eval.bench.styles import styles
from eval.benchmarks.image import IMAGE10
from eval.benchmarks.vlmeval import RULES
from eval.cli import app

FILES = {
    MISC: """
import package_that_is_not_installed
def cn_string(text): return False
def istype(text, kind): return False
def listinstr(some, text): return any(x in text for x in some)
def process_punctuation(text): return text.replace(".", "")
""",
    MATCHING: """
import string
from vlmeval.smp.log import get_logger
logger = get_logger(__name__)
def can_infer(answer, choices): return answer if answer in choices else False
""",
    CHOICE: """
from vlmeval.utils import can_infer
def prefetch_circular_group(rows):
    row = rows.iloc[0]
    found = can_infer(row["prediction"], row.to_dict())
    return {"hit": int(found == row["GT"])} if found else None
def eval_vanilla(model, item, dataset_name=None):
    return {"hit": int(can_infer(item["prediction"], item) == item["GT"])}
def MMMU_preproc(rows):
    rows["A"] = rows["answer"] if rows["A"][0] is None else rows["A"]
    return rows
""",
    VQA: """
from vlmeval.smp import istype
def process_line(line, method): return {"match": [line["prediction"] in line["answer"]]}
def hit_calculate(lines, dataset): return [float(max(line["match"])) for line in lines]
""",
    YES_NO: """
from vlmeval.smp import process_punctuation
def YOrN_Extraction(text): return process_punctuation(text)
""",
    MATHVISTA: """
from vlmeval.utils import can_infer
def post_check(line, prefetch=False): return line["res"] == line["answer"]
""",
    OCR: """
from .image_base import ImageBaseDataset
class Heavy(torch.nn.Module): pass
class OCRBench(ImageBaseDataset):
    @classmethod
    def evaluate(self, file):
        row = load(file).iloc[0]
        return {"Final Score": int(row["prediction"].lower() in row["answer"].lower())}
""",
}


@pytest.fixture
def checkout(tmp_path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_its_functions_are_asked_without_what_it_imports(checkout):
    kit = Kit(checkout)
    assert list(ASKED) == list(RULES) == [benchmark.name for benchmark in IMAGE10]
    for name in ASKED:
        plain = [s for s in styles(name) if s.right and s.form in ("{k}", "{}", "number {}")]
        docs = [{"question": f"Which?{s.doc.get('after', '')}"} | s.doc for s in plain]
        points = [kit.points(name, doc, s.answer) for doc, s in zip(docs, plain, strict=True)]
        assert sum(points) > 0, name
        assert kit.points(name, docs[0], "Hm?") == 0


def test_two_hundred_styles_of_each():
    for benchmark in IMAGE10:
        found = styles(benchmark.name)
        assert len({(s.answer, str(s.doc)) for s in found}) >= 200, benchmark.name
        assert 0.1 < sum(s.right for s in found) / len(found) < 0.9


def test_a_difference_is_found_and_named(checkout, monkeypatch, tmp_path):
    chartqa = [benchmark for benchmark in IMAGE10 if benchmark.name == "chartqa"]
    monkeypatch.setattr(scorers, "IMAGE10", chartqa)
    result = scorers.run(tmp_path / "work", small=True, checkout=checkout)
    assert not result.ok  # the stand-in knows no 5 %
    found = result.figures["chartqa"]
    assert found["styles"] >= 200 > found["as_vlmevalkit"] - 100
    assert "12.5" in found["unlike"]
    assert found["official_differs"] == sum(line["answers"] for line in result.rows[1:])
    (line,) = [line for line in result.rows if line["form"] == "{}"]
    assert line["right"] == f"official {line['answers']}"


@pytest.mark.parametrize("words", [["scorers"], ["oracle", "somewhere"], ["scorers", "nowhere"]])
def test_the_checkout_is_named_for_this_bench_alone(words):
    done = CliRunner().invoke(app, ["bench", *words])
    assert done.exit_code == (1 if "nowhere" in words else 2)
    if "nowhere" in words:
        assert "it is no checkout" in json.loads(done.stdout.splitlines()[-1])["error"]
    else:
        assert "takes a VLMEvalKit checkout" in done.output
