"""Charts: places within the frame, noise that can be told from its mean, marks of a score."""

from collections import Counter
from xml.etree import ElementTree

import pytest

from eval.report.chart import HEIGHT, LONGEST, WIDTH, bars, figure, lines, scores, smooth


def drawing(chart: str) -> ElementTree.Element:
    [svg] = ElementTree.fromstring(chart).iter("svg")
    return svg


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


def test_noise_is_drawn_behind_its_running_mean():
    noisy = [(n, float(n % 2)) for n in range(100)]
    assert all(0.4 < y < 0.6 for _, y in smooth(noisy)[5:-5])
    assert [x for x, _ in smooth(noisy)] == [x for x, _ in noisy]
    few = [(1, 1.0), (2, 3.0)]
    assert smooth(few) == few
    raw, bold = drawing(lines("t", {"a": noisy}, noisy=True)).iter("polyline")
    spread = [max(ys) - min(ys) for ys in ([y for _, y in points(e)[5:-5]] for e in (raw, bold))]
    assert spread[1] < 0.2 * spread[0]
    [only] = drawing(lines("t", {"a": noisy})).iter("polyline")
    assert points(only) == points(raw)


def scored(name: str, **more) -> dict:
    return {"name": name, "score": 60.0, "ci_low": 50.0, "ci_high": 70.0, "blind": 10.0,
            "chance": 25.0, "missing": "", **more}  # fmt: skip


def test_scores_have_their_interval_blind_and_chance():
    long = "x" * 300
    rows = [scored("one"), scored("two", blind=None, chance=None), scored(long),
            scored("gone", score=None, ci_low=None, ci_high=None, missing="no data")]  # fmt: skip
    text = scores("t", rows)
    chart = drawing(text)
    widths = [e.get("width") for e in chart.iter("rect")]
    assert widths == ["100%", "60.00%"] * 3  # the whole scale behind each
    drawn = [[e.get(k) for k in ("x1", "x2", "y1", "y2")] for e in chart.iter("line")]
    assert [(x1, x2) for x1, x2, y1, y2 in drawn if y1 == y2] == [("50.00%", "70.00%")] * 3
    upright = Counter(x1 for x1, x2, _, _ in drawn if x1 == x2)
    assert upright == {"50.00%": 3, "70.00%": 3, "25.00%": 2}  # ends, and chance
    assert [e.get("cx") for e in chart.iter("circle")] == ["10.00%"] * 2  # blind
    assert [e.text for e in ElementTree.fromstring(text).iter("li")] == [
        "95 % interval", "blind", "chance"
    ]  # fmt: skip
    names = [e for e in chart.iter("text") if e.get("x") == "0"]
    assert [e.text[:3] for e in names] == ["one", "two", "xxx"]
    assert max(len(e.text) for e in names) == LONGEST
    assert names[2].find("title").text == long
    assert "60.0 (50.0–70.0)" in [e.text for e in chart.iter("text")]
