"""The page of a run: whatever its state, self-contained, and safe to open."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from stages.chart import bars, figure, lines
from stages.cli import app
from stages.page import write_page

HOSTILE = "<script>alert('x')</script>"
RECIPE = """
output: runs/x
text: tiny:llama
stages:
- {name: one, steps: 3, objective: sft, trainable: {projectors: 0.001}, data: {mixture: {a: 1}}}
- {name: two, steps: 3, objective: sft, trainable: {"*": 0.001}, data: {mixture: {a: 1, b: 1}}}
"""


def row(stage: str, step: int, **more) -> dict:
    counts = {f"source.{name}.{k}": 7 for name in "ab" for k in ("samples", "tokens", "labels")}
    rates = dict.fromkeys(
        ("tokens_per_s", "label_tokens_per_s", "images_per_s", "audio_seconds_per_s", "data_wait",
         "padding", "mfu", "mfu.llm", "memory_gb", "lr.projectors", "seconds", "tokens"), 0.5,
    )  # fmt: skip
    losses = {"loss": 3.0 / step, "modality.text": 2.0 / step, "source.a": 1.0 / step}
    return {"stage": stage, "step": step, **counts, **rates, "tokens": 14, **losses, **more}


@pytest.fixture
def run(tmp_path) -> Path:
    """Give a run that stopped in its second stage."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    rows = [row("one", step) for step in (1, 2, 2, 3)] + [row("two", 1)]
    lines_ = [json.dumps(r) for r in rows] + ['{"event": "stage_end"}', '{"stage": "two", "st']
    (tmp_path / "log.jsonl").write_text("\n".join(lines_))
    (tmp_path / "one").mkdir()
    facts = {"name": "one", "seconds": 3.0, "tokens": 42, "first_loss": 3.0, "last_loss": 1.0,
             "frozen_ok": True, "frozen": {"llm": "ab" * 32}, "peak_rss_gb": 1}  # fmt: skip
    (tmp_path / "one" / "stage.json").write_text(json.dumps(facts))
    folder = tmp_path / "resume" / "two"
    folder.mkdir(parents=True)
    bad = {"source": "a", "key": HOSTILE, "shard": "x/train-0.tar", "reason": "cut & <b>short</b>"}
    (folder / "quarantine.jsonl").write_text(json.dumps(bad) + "\n")
    return tmp_path


def figures(page: str) -> list[str]:
    return re.findall(r"<figure>.*?</figure>", page, re.S)


def test_a_run_in_progress_has_a_page_that_says_what_is_missing(run):
    done = CliRunner().invoke(app, ["report", str(run)])
    assert done.exit_code == 0, done.output
    assert "no report.json yet" in done.output
    page = (run / "report.html").read_text()
    assert "two: step 1 of 3" in page
    assert "no evaluation yet: when all stages are finished, run" in page
    assert "no probes" in page
    charts = figures(page)
    assert len(charts) == 2 * 2 + 6 + 1  # losses of each stage, rates, data
    for chart in charts:
        [drawing] = re.findall(r"<svg.*</svg>", chart, re.S)
        ElementTree.fromstring(drawing)
        assert "nothing yet" not in drawing
    assert '<td class="n">21<td class="n">21' in page  # three steps of seven: the later one counts
    assert "unchanged" in page


def test_what_is_in_the_data_cannot_become_code_of_the_page(run):
    page = write_page(run, run / "eval").read_text()
    assert "<script" not in page.lower()
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page
    assert "cut &amp; &lt;b&gt;short&lt;/b&gt;" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "http" not in page.replace("http-equiv", "")


def test_the_page_shows_evaluation_probes_and_example(run):
    evaluation = run / "eval"
    evaluation.mkdir()
    (evaluation / "example.jpg").write_bytes(b"\xff\xd8picture")
    one = {"name": "category", "score": 61.25, "n": 8, "ci_low": 50.0, "ci_high": 70.0,
           "blind": 2.0, "chance": 25.0, "how": "own", "controls": {}, "details": {},
           "missing": ""}  # fmt: skip
    example = {"image": str(evaluation / "example.jpg"), "audio": "gone.flac", "question": HOSTILE,
               "answer": "red", "expected": "blue"}  # fmt: skip
    (evaluation / "rows.json").write_text(json.dumps({
        "images": "8 held-out pictures", "rows": [one], "limit": None, "problems": [],
        "example": example}))  # fmt: skip
    losses = {"vision": {"loss": 1.5, "labels": 9}, HOSTILE: {"loss": 2.5, "labels": 1}}
    probe = {"objective": "sft", "heldout": losses,
             "text_drift": 0.25, "rows": [{"name": "category", "score": 61.25}],
             "missing": [f"no held-out shard of {HOSTILE}"]}  # fmt: skip
    (run / "one" / "probe.json").write_text(json.dumps(probe))
    page = write_page(run, evaluation).read_text()
    assert "61.2" in page
    assert 'src="data:image/jpeg;base64,' in page
    assert "<audio" not in page
    assert "<script" not in page.lower()
    assert len(figures(page)) == 2 * 2 + 6 + 1 + 3


def test_a_line_keeps_to_its_frame_and_drops_what_is_no_number():
    wild = [(n, 10.0 ** (n % 7)) for n in range(1, 2000)] + [(2000, float("nan"))]
    svg = re.search(r"<svg.*</svg>", lines("t", {"a": wild, "b": []}, log=True), re.S).group()
    [line] = [e for e in ElementTree.fromstring(svg).iter("polyline") if e.get("points")]
    points = [tuple(map(float, p.split(","))) for p in line.get("points").split()]
    assert 100 < len(points) <= 300
    assert all(0 <= x <= 640 and 0 <= y <= 220 for x, y in points)
    for flat in ([(1, 2.0)], [(1, 0.0), (2, 0.0)], [(1, -3.0), (2, 4.0)]):
        assert "polyline" in lines("t", {"a": flat}, log=True)
    assert "nothing yet" in lines("t", {"a": [(1, float("inf"))]})
    assert "nothing yet" in bars("t", {})


@pytest.mark.parametrize(("value", "text"), [
    (0, "0"), (0.00012345, "0.000123"), (3.14159, "3.14"), (1234, "1234"), (12345, "12.3k"),
    (2.5e7, "25M"), (3e10, "30G"),
])  # fmt: skip
def test_figures_are_short(value, text):
    assert figure(value) == text
