"""The page of a result: safe to open, its wrong answers with their pictures, a filter for rows."""

import io
from pathlib import Path

import pytest
from lxml import html
from PIL import Image

from eval.answering.failures import SHOWN, choose, keep_pictures, thumbnail
from eval.report.result import report
from eval.scoring.right import Outcome
from omni.processing.messages import image, user

HOSTILE = "<script>alert('x')</script>"


def outcome(number: int, correct: float = 0.0, group: str = "") -> Outcome:
    return Outcome(str(number), f"What is {HOSTILE}?", "a lion", HOSTILE, correct, group)


def result(**more) -> dict:
    row = {"name": "category", "title": "category", "score": 61.25, "n": 8, "ci_low": 50.0,
           "ci_high": 70.0, "blind": 2.0, "chance": 25.0, "how": "own", "controls": {},
           "details": {}, "missing": "", "categories": {}}  # fmt: skip
    return {"suite": "mini", "images": "8 pictures", "rows": [row | more], "limit": None,
            "problems": [], "seconds": 3.0, "weights": "w" * 64, "data": "d" * 64, "mean": None,
            "model": HOSTILE}  # fmt: skip


def line(number: int, **more) -> dict:
    return {"row": "category", "condition": "normal", "doc": str(number), "question": HOSTILE,
            "expected": "a lion", "answer": "a tiger", "correct": 0.0, "group": "",
            "category": "", "image": "", **more}  # fmt: skip


CHOOSE = """
const page = frames[0];
found = [...page.querySelectorAll("label")].map(label => {
  label.click();
  return [label.innerText, page.body.innerText];
});
"""


def answers(page: html.HtmlElement) -> list[str]:
    texts = [e.text_content() for e in page.iter("p")]
    return [t.removeprefix("answer: ") for t in texts if t.startswith("answer: ")]


@pytest.fixture
def out(tmp_path, make_picture) -> Path:
    keep_pictures(
        "category", [outcome(1)], lambda o: [user(image(make_picture(1)), o.question)], tmp_path
    )
    return tmp_path


def test_nothing_of_the_data_becomes_code(out, loads_nothing):
    lines = [line(1, image="failures/category-00.jpg", answer=HOSTILE)]
    page = html.fromstring(report(result(), lines, out))
    assert loads_nothing(page)
    assert answers(page) == [HOSTILE]
    [picture] = page.iter("img")
    assert picture.get("src").startswith("data:image/jpeg;base64,")


def test_only_what_was_seen_and_is_not_fully_right_is_listed(out):
    lines = [
        line(1), line(2, correct=1.0, answer="rightly"), line(3, condition="blind", answer="blind"),
        line(4, correct=0.3, answer="a bit"), line(5, answer=""), line(6, answer="x" * 100_000),
    ]  # fmt: skip
    text = report(result(), lines, out)
    page = html.fromstring(text)
    # a bit: it has points, and could have more
    assert [answer[:5] for answer in answers(page)] == ["a tig", "a bit", "(empt", "xxxxx"]
    assert answers(page)[3].endswith("(100,000 letters)")
    assert [e.text_content() for e in page.iter("label")] == ["all", "category 4 of 4"]
    assert len(text) < 20_000


def test_a_row_can_be_chosen_without_scripts(out, loads_nothing, browse):
    found = result()
    found["rows"].append(found["rows"][0] | {"name": "other", "title": "other"})
    lines = [line(1, answer="lynx"), line(2, answer="puma"), line(1, row="other", answer="wolf")]
    page = report(found, lines, out)
    assert loads_nothing(html.fromstring(page))
    seen = browse([page], (800,), CHOOSE)
    shown = {label: {name for name in ("lynx", "puma", "wolf") if name in text}
             for label, text in seen}  # fmt: skip
    assert shown == {"all": {"lynx", "puma", "wolf"}, "category 2 of 2": {"lynx", "puma"},
                     "other 1 of 1": {"wolf"}}  # fmt: skip


def test_categories_and_the_mean_are_shown(out):
    found = result(categories={"charts": {"score": 12.5, "n": 8}, "": {"score": 50.0, "n": 2}},
                   detectable=4.5)  # fmt: skip
    found["mean"] = {"score": None, "of": 10, "why": "9 of 10, missing ChartQA"}
    page = html.fromstring(report(found, [], out))
    [table] = page.iter("table")
    head, *rows = ([cell.text_content().strip() for cell in row] for row in table.iter("tr"))
    assert [row[head.index("detectable")] for row in rows] == ["4.5", ""]
    assert "9 of 10, missing ChartQA" in " ".join(rows[1])
    assert [e.text for e in page.iter("dt")] == ["charts", "none"]
    assert [e.text_content() for e in page.iter("dd")] == ["12.5 n 8", "50.0 n 2"]
    assert [float(e.get("value")) for e in page.iter("progress")] == [12.5, 50.0]


def test_scores_and_examples_come_first(tmp_path, make_picture, make_sound):
    (tmp_path / "00.png").write_bytes(make_picture(1))
    (tmp_path / "00.wav").write_bytes(make_sound(0.1))
    example = {"image": "00.png", "audio": "00.wav", "row": "spoken_question", "correct": 0.0,
               "question": HOSTILE, "answer": "a tiger", "expected": "a lion"}  # fmt: skip
    page = html.fromstring(report(result() | {"examples": [example]}, [], tmp_path))
    order = [e.tag for e in page.iter("img", "audio", "figure", "table")]
    assert order == ["img", "audio", "figure", "table"]
    [sound] = page.iter("audio")
    assert "controls" in sound.attrib
    assert sound.get("src").startswith("data:audio/wav;base64,")
    assert HOSTILE in page.text_content()
    right = report(result() | {"examples": [example | {"correct": 1.0}]}, [], tmp_path)
    assert "expected: a lion" in page.text_content()
    assert "(expected" not in html.fromstring(right).text_content()


def test_failures_are_spread_and_one_for_each_unit():
    row = [outcome(k, correct=float(k % 2), group=f"q{k // 4}") for k in range(400)]
    chosen = choose(row)
    assert len(chosen) == SHOWN == len({o.group for o in chosen})
    assert all(o.correct == 0 for o in chosen)
    assert max(int(o.doc) for o in chosen) > 350
    few = [outcome(k, group=f"q{k // 20}") for k in range(60)]
    assert [o.doc for o in choose(few)[:4]] == ["0", "20", "40", "1"]  # the others after the first
    assert len(choose(few)) == SHOWN
    assert choose([outcome(1, 1.0)]) == []


def test_thumbnails_are_small_and_survive_what_is_no_picture(make_picture, tmp_path):
    wide = Image.open(io.BytesIO(thumbnail([make_picture(1, (900, 600)), b"no", make_picture(2)])))
    assert wide.format == "JPEG"
    assert wide.height == 180
    assert 270 < wide.width < 400
    assert thumbnail([b"no picture"]) == b""
    wrong = [outcome(1), outcome(2)]
    pictures = {"1": b"broken", "2": make_picture(1)}
    for _ in range(2):  # again: no old file stays
        keep_pictures("r", wrong, lambda o: [user(image(pictures[o.doc]), "?")], tmp_path)
    assert [o.image for o in wrong] == ["", "failures/r-01.jpg"]
    assert [file.name for file in (tmp_path / "failures").iterdir()] == ["r-01.jpg"]
