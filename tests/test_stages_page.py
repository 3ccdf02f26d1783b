"""The page of a run: whatever its state, self-contained, and safe to open."""

import json
import re
import subprocess
from html import escape, unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from typer.testing import CliRunner

from eval.report.page import render
from eval.report.result import report
from stages.cli import app
from stages.report.page import write_page
from stages.report.picture import SIZE, browser

HOSTILE = "<script>alert('x')</script>"
LONG = "a_name_without_any_place_to_break_it_" * 8
WIDTHS = (400, 800, 1300)
CARDS = ".card, figure"
MEASURE = """
function misfits(page) {
  const found = [], say = (e, why) => found.push(why + ": " + e.textContent.slice(0, 60));
  if (page.documentElement.scrollWidth > page.documentElement.clientWidth) found.push("page");
  for (const card of page.querySelectorAll("CARDS")) {
    if (card.scrollWidth > card.clientWidth) say(card, "scrolls");
    const edge = card.getBoundingClientRect();
    for (const e of card.querySelectorAll("text, li, dt, dd, p, img, audio")) {
      const box = e.getBoundingClientRect();
      if (box.right > edge.right + 1 || box.left < edge.left - 1) say(e, "runs out");
      if (e.matches("dd") && e.getClientRects().length > 1) say(e, "breaks");
    }
  }
  return found;
}
onload = () => {
  const frames = [...document.querySelectorAll("iframe")];
  document.body.textContent = JSON.stringify(frames.map(f => misfits(f.contentDocument)));
};
""".replace("CARDS", CARDS)
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


def scored(name: str, **more) -> dict:
    return {"name": name, "title": name, "score": 61.25, "n": 8, "ci_low": 50.0, "ci_high": 70.0,
            "blind": 2.0, "chance": 25.0, "how": "own", "controls": {}, "details": {},
            "missing": "", **more}  # fmt: skip


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
    one = scored("category")
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
    assert len(figures(page)) == 1 + 2 * 2 + 6 + 1 + 3  # the scores first
    assert page.index("The model answers") < page.index("<h2>Stages</h2>")


def measured(pages: list[str], folder: Path) -> list[list[str]]:
    """Return what runs out of its card in each page at each width, in a real browser."""
    if not browser():
        pytest.skip("no chromium is installed to lay the pages out")
    frames = "".join(
        f'<iframe style="width: {width}px; height: 900px; border: 0" srcdoc="{escape(page)}">'
        "</iframe>" for page in pages for width in WIDTHS
    )  # fmt: skip
    page = folder / "all.html"
    page.write_text(f"<script>{MEASURE}</script><body>{frames}", encoding="utf-8")
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
               f"--user-data-dir={folder / 'profile'}", f"file://{page}"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r"<body>(.*?)</body>", done.stdout, re.S)
    assert found, done.stderr
    return json.loads(unescape(found.group(1)))


@pytest.mark.slow
def test_nothing_runs_out_of_its_card(run, tmp_path, make_picture):
    long = {f"{kind}.{LONG}{k}": 1.0 for kind in ("source", "modality") for k in range(6)}
    rows = [json.dumps(row("one", step, **long)) for step in range(1, 40)]
    (run / "log.jsonl").write_text("\n".join(rows))
    categories = {name: {"score": 100.0, "n": 123456} for name in ("short", LONG, "two words")}
    result = {
        "images": "8 held-out pictures", "limit": None, "problems": [], "suite": "mini",
        "rows": [scored(name, categories=categories) for name in ("category", LONG)],
        "seconds": 1.0, "weights": "w" * 64, "data": "d" * 64, "mean": None, "model": LONG,
        "example": {"image": "example.png", "audio": "example.wav", "question": LONG,
                    "answer": LONG, "expected": "blue"},
    }  # fmt: skip
    (run / "eval").mkdir()
    (run / "eval" / "rows.json").write_text(json.dumps(result))
    (run / "eval" / "example.wav").write_bytes(b"RIFF")
    (run / "eval" / "example.png").write_bytes(make_picture(1, (900, 600)))
    lost = {"row": "category", "condition": "seen", "doc": LONG, "question": LONG, "image": "",
            "expected": LONG, "answer": LONG, "correct": 0.0, "category": LONG}  # fmt: skip
    pages = [
        write_page(run, run / "eval").read_text(),
        report(result, [lost], run / "eval"),
        render("base.html", "eval", name="control") + f'<p class="card"><code>{"wide " * 99}',
    ]
    pages[-1] = pages[-1].replace("<code>", '<code style="white-space: pre">')
    out = tmp_path / "docs" / "run.png"
    done = CliRunner().invoke(app, ["report", str(run), "--picture", str(out)])
    assert done.exit_code == 0, done.output
    with Image.open(out) as picture:
        assert picture.width == SIZE[0]
        assert 300 < picture.height < SIZE[1]
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 50
    *found, broken = (measured(pages, tmp_path)[i : i + 3] for i in (0, 3, 6))
    assert found == [[[], [], []]] * 2
    assert all(broken)


def test_a_picture_needs_an_evaluation_and_a_browser(run, monkeypatch):
    asked = ["report", str(run), "--picture", str(run / "run.png")]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 2
    assert "no rows.json; run omni-eval" in done.output
    (run / "eval").mkdir()
    (run / "eval" / "rows.json").write_text(json.dumps({
        "images": "8", "rows": [scored("category")], "limit": None, "problems": [], "figures": {},
        "seconds": 1}))  # fmt: skip
    monkeypatch.setenv("PATH", "")
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 2
    assert "none is installed" in done.output
    assert not (run / "run.png").exists()
