"""What thinking longer is worth, as a page with a plot."""

from collections.abc import Mapping

from markupsafe import Markup

from .chart import Points, lines
from .page import render


def thinking_page(points: Points, figures: Mapping[str, str]) -> str:
    """Return a page of (tokens of thinking, score) points and the three figures, as text each."""
    plot = lines("score over tokens of thinking", {"score": sorted(points)}, "tokens of thinking")
    return render("thinking.html", "eval.report", name="thinking", plot=Markup(plot),
                  figures=figures)  # fmt: skip
