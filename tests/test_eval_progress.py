"""How far an evaluation is, on a terminal and in a log."""

import io

import pytest
from rich.console import Console

from eval import progress


@pytest.mark.parametrize("terminal", [True, False])
def test_a_log_gets_a_line_now_and_then(terminal, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    with progress.AnswerProgress(console) as bar:
        for seconds in (1, 1, progress.PRINT_SECONDS, 1):
            now[0] += seconds
            bar.condition("mini-seedbench", "shuffled_images")
            bar.answered(32)
    found = console.file.getvalue()  # type: ignore[attr-defined]
    line = "mini-seedbench (shuffled images): 96 answers in 17 s\n"
    assert (found == line) is not terminal
    assert ("128 answers" in found) is terminal
