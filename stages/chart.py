"""Line and bar charts as SVG text; the page's style sheet colours them."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 20, 30
COLOURS = 8  # that the style sheet has
POINTS = 300  # of a line; more are averaged
DOTS = 60  # up to so many points each can be pointed at

Points = Sequence[tuple[float, float]]


def lines(
    title: str,
    series: Mapping[str, Points],
    x_name: str = "step",
    marks: Sequence[tuple[float, str]] = (),
    log: bool = False,
) -> str:
    """Draw lines with a legend.

    Args:
        title: what the y axis shows, with its unit.
        series: name -> (x, y) points by rising x. A name's place decides its colour, so charts
            that shall agree are given the same names, without points where there are none.
        x_name: what the x axis shows.
        marks: x and name of vertical lines.
        log: a logarithmic y axis, if all values are above zero.
    """
    kept = {name: _thin([p for p in points if math.isfinite(p[1])])
            for name, points in series.items()}  # fmt: skip
    every = [point for points in kept.values() for point in points]
    if not every:
        return _frame(title, '<text class="none" x="50%" y="50%">nothing yet</text>', "")
    low, high = min(y for _, y in every), max(y for _, y in every)
    log = log and low > 0
    if not log:
        low = min(0.0, low)
    across = _Axis(min(x for x, _ in every), max(x for x, _ in every), LEFT, WIDTH - RIGHT)
    up = _Axis(low, high, HEIGHT - BOTTOM, TOP, log)
    body = [_grid(across, up, x_name)]
    for x, name in marks:
        at = f"{across(x):.1f}"
        body.append(f'<line class="mark" x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        side = "y" if across(x) > WIDTH - 80 else "mark"  # ends or begins at the line
        body.append(f'<text class="{side}" x="{at}" y="{TOP - 6}">{escape(name)}</text>')
    for number, (name, points) in enumerate(kept.items()):
        body.append(_line(name, number % COLOURS, points, across, up))
    legend = "".join(
        f'<span class="key k{number % COLOURS}">{escape(name)} '
        f"<b>{figure(points[-1][1])}</b></span>"
        for number, (name, points) in enumerate(kept.items())
        if points
    )
    return _frame(title, "".join(body), legend)


def bars(title: str, values: Mapping[str, float]) -> str:
    """Draw horizontal bars, one a name, with their values."""
    if not values:
        return _frame(title, '<text class="none" x="50%" y="50%">nothing yet</text>', "")
    most, body = max(*values.values(), 1e-12), []
    for number, (name, value) in enumerate(values.items()):
        y, width = 20 * number + 4, 360 * max(0.0, value) / most
        body.append(
            f'<text class="name" x="168" y="{y + 12}">{escape(name)}</text>'
            f'<rect class="c{number % COLOURS}" x="176" y="{y}" width="{width:.1f}" height="15"/>'
            f'<text x="{182 + width:.1f}" y="{y + 12}">{figure(value)}</text>'
        )
    return _frame(title, "".join(body), "", 20 * len(values) + 8)


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


def _line(name: str, colour: int, points: Points, across: _Axis, up: _Axis) -> str:
    places = [(across(x), up(y)) for x, y in points]
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    body = f'<polyline class="c{colour}" points="{drawn}"/>'
    if len(points) <= DOTS:
        for (x, y), (at, value) in zip(places, points, strict=True):
            told = f"{escape(name)}: {figure(value)} at {at:g}"
            body += (
                f'<circle class="c{colour}" cx="{x:.1f}" cy="{y:.1f}" r="2.5">'
                f"<title>{told}</title></circle>"
            )
    return body


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Average neighbours until there are at most `POINTS`."""
    size = -(-len(points) // POINTS)
    if size <= 1:
        return points
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(g[-1][0], sum(y for _, y in g) / len(g)) for g in groups]


def _frame(title: str, body: str, legend: str, height: float = HEIGHT) -> str:
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="{escape(title)}">{body}</svg><div>{legend}</div></figure>'
    )
