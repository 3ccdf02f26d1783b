"""Charts as SVG text; style.css has their fonts and colours."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 440, 240  # of a line chart, which is scaled to its card: 12 px stay legible
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 32, 30
COLOURS = 8  # that the style sheet has
POINTS = 300  # of a line; more are averaged
DOTS = 60  # up to so many points each can be pointed at
SMOOTHED = 20  # so many points or more are smoothed, where that is asked for
ROW = 44  # height of a name and its bar
LONGEST = 26  # characters of a name beside its value
SCALED = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
NOTHING = '<text class="none" x="50%" y="50%">nothing yet</text>'

Points = Sequence[tuple[float, float]]


def lines(
    title: str,
    series: Mapping[str, Points],
    x_name: str = "step",
    marks: Sequence[tuple[float, str]] = (),
    log: bool = False,
    noisy: bool = False,
) -> str:
    """Draw lines, with a legend that names their last values.

    Args:
        title: what the y axis shows, with its unit.
        series: name -> (x, y) points by rising x. A name's place decides its colour, so charts
            that shall agree are given the same names, without points where there are none.
        x_name: what the x axis shows.
        marks: x and name of vertical lines.
        log: a logarithmic y axis, if all values are above zero.
        noisy: draw points light, and in bold their running mean, whose last value is named then.
    """
    kept = {name: [p for p in points if math.isfinite(p[1])] for name, points in series.items()}
    every = [point for points in kept.values() for point in points]
    if not every:
        return _frame(title, NOTHING, "")
    bold = {name: smooth(points) if noisy else points for name, points in kept.items()}
    low, high = min(y for _, y in every), max(y for _, y in every)
    log = log and low > 0
    if not log:
        low = min(0.0, low)
    across = _Axis(min(x for x, _ in every), max(x for x, _ in every), LEFT, WIDTH - RIGHT)
    up = _Axis(low, high, HEIGHT - BOTTOM, TOP, log)
    body = [_grid(across, up, x_name)]
    for number, (x, name) in enumerate(marks):
        at = f"{across(x):.1f}"
        body.append(f'<line class="mark" x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        side = "y" if across(x) > WIDTH - 90 else "mark"  # ends or begins at the line
        y = TOP - 6 - 13 * (number % 2)  # in turns, as short stages stand close to one another
        body.append(f'<text class="{side}" x="{at}" y="{y}">{escape(name)}</text>')
    for number, (name, points) in enumerate(kept.items()):
        body.append(_line(name, number % COLOURS, points, bold[name], across, up))
    legend = "".join(
        f'<li class="c{number % COLOURS}">{escape(name)} <b>{figure(points[-1][1])}</b></li>'
        for number, (name, points) in enumerate(bold.items())
        if points
    )
    return _frame(title, "".join(body), legend)


def bars(title: str, values: Mapping[str, float]) -> str:
    """Draw horizontal bars, one a name, each below its name and value."""
    whole = max(values.values(), default=0.0) or 1.0
    rows = [
        _bar(number, name, figure(value), 100 * value / whole)
        for number, (name, value) in enumerate(values.items())
    ]
    return _rows(title, rows)


def scores(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw the score of each row of a result with its 95 % interval, chance, and blind.

    Args:
        title: what is drawn, with its unit.
        rows: of rows.json, on 0 to 100; the missing ones are left out.
    """
    drawn = []
    for number, row in enumerate(row for row in rows if not row["missing"]):
        value = f"{row['score']:.1f} ({row['ci_low']:.1f}–{row['ci_high']:.1f})"
        drawn.append(_bar(number, row.get("title") or row["name"], value, row["score"], 0)
                     + _marks(row, ROW * number + 29))  # fmt: skip
    legend = (
        '<li class="interval">95 % interval</li><li class="blind">blind</li>'
        '<li class="chance">chance</li>'
    )
    return _rows(title, drawn, legend)


def smooth(points: Points) -> Points:
    """Return the running mean of `SMOOTHED` points or more, over a tenth of them; fewer as is."""
    if len(points) < SMOOTHED:
        return points
    reach, sums = max(2, len(points) // 20), [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    found = []
    for number, (x, _) in enumerate(points):
        first, end = max(0, number - reach), min(len(points), number + reach + 1)
        found.append((x, (sums[end] - sums[first]) / (end - first)))
    return found


def figure(value: float) -> str:
    """Write a number with three digits, thousands as k, M, G."""
    for power, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * power:
            return f"{value / power:.3g}{suffix}"
    return f"{value:.4g}" if abs(value) >= 1000 else f"{value:.3g}"


class _Axis:
    """Values to places on the page."""

    def __init__(self, low: float, high: float, start: float, end: float, log: bool = False):
        if high <= low:
            low, high = (low / 2, high * 2) if log else (low - 0.5, high + 0.5)
        self.low, self.high, self.start, self.end, self.log = low, high, start, end, log

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """Return about five round values."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if len(powers) <= 3 else (1,)
            found = [step * 10.0**power for power in powers for step in steps]
        else:
            rough = (self.high - self.low) / 5
            unit = 10.0 ** math.floor(math.log10(rough))
            step = next(unit * n for n in (1, 2, 5, 10) if unit * n >= rough)
            first = math.ceil(self.low / step)
            found = [step * n for n in range(first, math.floor(self.high / step) + 1)]
        return [value for value in found if self.low <= value <= self.high]


def _grid(across: _Axis, up: _Axis, x_name: str) -> str:
    body = []
    for value in up.ticks():
        y = f"{up(value):.1f}"
        body.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        body.append(f'<text class="y" x="{LEFT - 6}" y="{y}" dy="4">{figure(value)}</text>')
    for value in across.ticks():
        if value == round(value):
            x = f"{across(value):.1f}"
            body.append(f'<text class="x" x="{x}" y="{HEIGHT - 12}">{figure(value)}</text>')
    body.append(f'<text class="y" x="{WIDTH - RIGHT}" y="{HEIGHT - 1}">{escape(x_name)}</text>')
    return "".join(body)


def _line(name: str, colour: int, points: Points, bold: Points, across: _Axis, up: _Axis) -> str:
    def drawn(some: Points, kind: str) -> str:
        places = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in _thin(some))
        return f'<polyline class="c{colour} {kind}" points="{places}"/>'

    kind = "bold" if bold is points else "raw"
    body = drawn(bold, "bold") if kind == "bold" else drawn(points, "raw") + drawn(bold, "bold")
    if len(points) <= DOTS:
        for x, y in points:
            body += (
                f'<circle class="c{colour} {kind}" cx="{across(x):.1f}" cy="{up(y):.1f}" r="2.5">'
                f"<title>{escape(name)}: {figure(y)} at {x:g}</title></circle>"
            )
    return body


def _bar(number: int, name: str, value: str, percent: float, colour: int | None = None) -> str:
    """Draw name, value and bar. Places are shares of the width, so that text is never scaled."""
    y = ROW * number
    width = min(100.0, max(0.0, percent))
    short = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
    return (
        f'<text x="0" y="{y + 16}">{escape(short)}<title>{escape(name)}</title></text>'
        f'<text class="y" x="100%" y="{y + 16}">{escape(value)}</text>'
        f'<rect class="track" x="0" y="{y + 22}" width="100%" height="14"/>'
        f'<rect class="c{number % COLOURS if colour is None else colour}" x="0" y="{y + 22}" '
        f'width="{width:.2f}%" height="14"/>'
    )


def _marks(row: Mapping[str, Any], y: int) -> str:
    low, high = f"{row['ci_low']:.2f}%", f"{row['ci_high']:.2f}%"
    body = f'<line class="interval" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>'
    for end in (low, high):
        body += f'<line class="interval" x1="{end}" x2="{end}" y1="{y - 4}" y2="{y + 4}"/>'
    if row["chance"] is not None:
        at = f"{row['chance']:.2f}%"
        body += f'<line class="chance" x1="{at}" x2="{at}" y1="{y - 9}" y2="{y + 9}"/>'
    if row["blind"] is not None:
        body += f'<circle class="blind" cx="{row["blind"]:.2f}%" cy="{y}" r="4"/>'
    return body


def _thin(points: Points) -> Points:
    """Average neighbours until there are at most `POINTS`."""
    size = -(-len(points) // POINTS)
    if size <= 1:
        return points
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(g[-1][0], sum(y for _, y in g) / len(g)) for g in groups]


def _rows(title: str, rows: Sequence[str], legend: str = "") -> str:
    if not rows:
        return _frame(title, NOTHING, "")
    size = f'width="100%" height="{ROW * len(rows)}"'
    return _frame(title, "".join(rows), legend, size)


def _frame(title: str, body: str, legend: str, size: str = SCALED) -> str:
    legend = f'<ul class="legend">{legend}</ul>' if legend else ""
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg {size} role="img" aria-label="{escape(title)}">{body}</svg>{legend}</figure>'
    )
