"""The page of a run: whatever its state, self-contained, and safe to open."""

import json
from pathlib import Path

import pytest
from lxml import html
from PIL import Image
from typer.testing import CliRunner

from eval.report.page import render
from eval.report.result import report
from stages.cli import app
from stages.report.page import write_page
from stages.report.picture import SIZE

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
found = frames.map(misfits);
""".replace("CARDS", CARDS)
RECIPE = """
output: runs/x
text: tiny:llama
stages:
- {name: one, steps: 3, objective: sft, trainable: {projectors: 0.001}, data: {mixture: {a: 1}}}
- {name: two, steps: 3, objective: {kind: align, scale: 9}, trainable: {projectors: 0.001},
   lora: {language_model: {r: 8.0, lr: 0.001}}, data: {mixture: {a: 1, b: 1}}}
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


def figures(page: html.HtmlElement) -> list[html.HtmlElement]:
    return list(page.iter("figure"))


def rows_below(page: html.HtmlElement, heading: str) -> list[list[str]]:
    """Return the cells, as they are read, of the table that follows a heading."""
    [title] = [e for e in page.iter("h2") if e.text_content() == heading]
    [table] = title.xpath("following::table[1]")
    return [[cell.text_content().strip() for cell in row] for row in table.iter("tr")]


def test_a_run_in_progress_has_a_page_that_says_what_is_missing(run):
    done = CliRunner().invoke(app, ["report", str(run)])
    assert done.exit_code == 0, done.output
    assert "no report.json yet" in done.output
    page = html.parse(run / "report.html").getroot()
    missing = [e.text_content() for e in page.iter("li")][:3]
    assert missing[0] == "two: step 1 of 3"
    assert missing[1].startswith("no evaluation yet: when all stages are finished, run")
    assert missing[2].startswith("no probes")
    charts = figures(page)
    assert len(charts) == 2 * 2 + 6 + 1  # losses of each stage, rates, data
    assert not any("nothing yet" in chart.text_content() for chart in charts)
    assert [row[3:] for row in rows_below(page, "Stages")[1:]] == [
        ["finished", "3", "42", "3.000", "1.000", "unchanged"],
        ["step 1 of 3", "0", "14", "", "", ""],
    ]
    assert rows_below(page, "Data consumed") == [
        ["stage", "source", "samples", "tokens", "label tokens"],
        ["one", "a", "21", "21", "21"],  # three steps of seven: the later one counts
        ["two", "a", "7", "7", "7"], ["two", "b", "7", "7", "7"],
    ]  # fmt: skip


def test_what_is_in_the_data_cannot_become_code_of_the_page(run, loads_nothing):
    page = html.parse(write_page(run, run / "eval")).getroot()
    assert loads_nothing(page)
    assert rows_below(page, "Quarantined")[1] == [
        "two", "a", f"x/train-0.tar:{HOSTILE}", "cut & <b>short</b>"
    ]  # fmt: skip


def test_the_page_shows_evaluation_probes_and_example(run, loads_nothing):
    evaluation = run / "eval"
    evaluation.mkdir()
    (evaluation / "00.jpg").write_bytes(b"\xff\xd8picture")
    one = scored("category")
    example = {"image": "00.jpg", "audio": "gone.flac", "question": HOSTILE, "answer": "red",
               "expected": "blue", "correct": 0.0, "row": "category"}  # fmt: skip
    (evaluation / "rows.json").write_text(json.dumps({
        "images": "8 held-out pictures", "rows": [one], "limit": None, "problems": [],
        "examples": [example]}))  # fmt: skip
    asked = {"source": "a", "sample": "x.tar:1", "prompt": "<image> What?", "expected": "red",
             "answer": HOSTILE}  # fmt: skip
    losses = {"vision": {"loss": 1.5, "labels": 9}, HOSTILE: {"loss": 2.5, "labels": 1}}
    probe = {"objective": "sft", "heldout": losses,
             "text_drift": 0.25, "rows": [{"name": "category", "score": 61.25}],
             "answers": [asked], "missing": [f"no held-out shard of {HOSTILE}"]}  # fmt: skip
    (run / "one" / "probe.json").write_text(json.dumps(probe))
    inside = {"event": "answers", "name": "two", "after": 1, "answers": [asked | {"answer": "r"}]}
    log = (run / "log.jsonl").read_text().rsplit("\n", 1)[0]
    (run / "log.jsonl").write_text(f"{log}\n{json.dumps(inside)}\n")
    page = html.parse(write_page(run, evaluation)).getroot()
    assert loads_nothing(page)
    assert rows_below(page, "Evaluation")[1][0] == "category"
    assert [cell for cell in rows_below(page, "Evaluation")[1] if cell.startswith("61.2")]
    assert rows_below(page, "Probes between stages") == [
        ["held-out prompt", "expected", "one", "two, step 1"],
        ["<image> What?", "red", HOSTILE, "r"],
    ]
    assert ["two", "align, scale 9", "projectors, language_model (LoRA, r 8)"] in [
        cells[:3] for cells in rows_below(page, "Stages")
    ]
    [picture] = page.iter("img")
    assert picture.get("src").startswith("data:image/jpeg;base64,")
    assert not [*page.iter("audio")]
    assert len(figures(page)) == 1 + 2 * 2 + 6 + 1 + 3  # the scores first
    order = [e.text_content() for e in page.iter("p", "h2")]
    assert order.index(HOSTILE) < order.index("Stages")


def test_the_terminal_shows_a_right_and_a_wrong_example(run):
    evaluation = run / "eval"
    evaluation.mkdir()
    examples = [
        {"image": image, "audio": "", "question": question, "answer": "red", "expected": "blue",
         "correct": correct, "row": "category"}
        for image, question, correct in (("", "poor?", 0.0), ("00.jpg", "wrong?", 0.0),
                                         ("01.jpg", "right?", 1.0), ("02.jpg", "more?", 1.0))
    ]  # fmt: skip
    (evaluation / "rows.json").write_text(json.dumps({
        "images": "8 held-out pictures", "rows": [scored("category")], "examples": examples,
        "figures": {}, "seconds": 1.0, "limit": None, "problems": []}))  # fmt: skip
    done = CliRunner().invoke(app, ["report", str(run)])
    assert done.exit_code == 0, done.output
    told = done.output.splitlines()
    [right] = [line for line in told if "right?" in line]
    assert f"({evaluation / '01.jpg'})" in right
    assert told[told.index(right) + 1].strip() == "the model answers: 'red' (right)"
    assert "wrong?" in done.output and "(expected: blue)" in done.output
    assert "poor?" not in done.output and "more?" not in done.output


@pytest.mark.slow
def test_nothing_runs_out_of_its_card(run, tmp_path, make_picture, browse):
    long = {f"{kind}.{LONG}{k}": 1.0 for kind in ("source", "modality") for k in range(6)}
    rows = [json.dumps(row("one", step, **long)) for step in range(1, 40)]
    (run / "log.jsonl").write_text("\n".join(rows))
    categories = {name: {"score": 100.0, "n": 123456} for name in ("short", LONG, "two words")}
    result = {
        "images": "8 held-out pictures", "limit": None, "problems": [], "suite": "mini",
        "rows": [scored(name, categories=categories) for name in ("category", LONG)],
        "seconds": 1.0, "weights": "w" * 64, "data": "d" * 64, "mean": None, "model": LONG,
        "examples": [{"image": "00.png", "audio": "00.wav", "question": LONG, "row": LONG,
                      "answer": LONG, "expected": "blue", "correct": 0.5}],
    }  # fmt: skip
    (run / "eval").mkdir()
    (run / "eval" / "rows.json").write_text(json.dumps(result))
    (run / "eval" / "00.wav").write_bytes(b"RIFF")
    (run / "eval" / "00.png").write_bytes(make_picture(1, (900, 600)))
    lost = {"row": "category", "condition": "normal", "doc": LONG, "question": LONG, "image": "",
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
    misfits = browse(pages, WIDTHS, MEASURE)
    *found, broken = (misfits[i : i + 3] for i in (0, 3, 6))
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
