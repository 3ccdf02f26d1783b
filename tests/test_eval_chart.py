"""Charts: places within the frame, noise that can be told from its mean, marks of a score."""

import re
from xml.etree import ElementTree

import pytest

from eval.report.chart import HEIGHT, LONGEST, WIDTH, bars, figure, lines, scores, smooth


def drawing(chart: str) -> ElementTree.Element:
    return ElementTree.fromstring(re.search(r"<svg.*</svg>", chart, re.S).group())


def points(line: ElementTree.Element) -> list[tuple[float, ...]]:
    return [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]


def test_a_line_keeps_to_its_frame_and_drops_what_is_no_number():
    wild = [(n, 10.0 ** (n % 7)) for n in range(1, 2000)] + [(2000, float("nan"))]
    chart = drawing(lines("t", {"a": wild, "b": []}, log=True))
    [line] = [e for e in chart.iter("polyline") if e.get("points")]
    assert 100 < len(points(line)) <= 300
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points(line))
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


def test_noise_is_drawn_light_behind_its_running_mean():
    noisy = [(n, float(n % 2)) for n in range(100)]
    assert all(0.4 < y < 0.6 for _, y in smooth(noisy)[5:-5])
    assert [x for x, _ in smooth(noisy)] == [x for x, _ in noisy]
    few = [(1, 1.0), (2, 3.0)]
    assert smooth(few) == few
    raw, bold = drawing(lines("t", {"a": noisy}, noisy=True)).iter("polyline")
    assert raw.get("class") == "c0 raw"
    assert bold.get("class") == "c0 bold"
    spread = [max(ys) - min(ys) for ys in ([y for _, y in points(e)[5:-5]] for e in (raw, bold))]
    assert spread[1] < 0.2 * spread[0]
    [only] = drawing(lines("t", {"a": noisy})).iter("polyline")
    assert only.get("class") == "c0 bold"


def scored(name: str, **more) -> dict:
    return {"name": name, "score": 60.0, "ci_low": 50.0, "ci_high": 70.0, "blind": 10.0,
            "chance": 25.0, "missing": "", **more}  # fmt: skip


def test_scores_have_their_interval_blind_and_chance():
    long = "x" * 300
    rows = [scored("one"), scored("two", blind=None, chance=None), scored(long),
            scored("gone", score=None, ci_low=None, ci_high=None, missing="no data")]  # fmt: skip
    chart = drawing(scores("t", rows))

    def of(kind: str, tag: str) -> list[ElementTree.Element]:
        return [e for e in chart.iter(tag) if e.get("class") == kind]

    assert [e.get("width") for e in of("c0", "rect")] == ["60.00%"] * 3
    ends = [(e.get("x1"), e.get("x2")) for e in of("interval", "line")]
    assert ends == [("50.00%", "70.00%"), ("50.00%", "50.00%"), ("70.00%", "70.00%")] * 3
    assert [e.get("x1") for e in of("chance", "line")] == ["25.00%"] * 2
    assert [e.get("cx") for e in of("blind", "circle")] == ["10.00%"] * 2
    names = [e for e in chart.iter("text") if e.get("x") == "0"]
    assert [e.text[:3] for e in names] == ["one", "two", "xxx"]
    assert max(len(e.text) for e in names) == LONGEST
    assert names[2].find("title").text == long
    assert "60.0 (50.0–70.0)" in [e.text for e in chart.iter("text")]
