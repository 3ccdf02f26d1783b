"""`omni-eval guard`: the figures of predictions that others made."""

from pathlib import Path
from typing import Annotated

import typer

from omni.serve.command import refused


def guard(
    answers: Annotated[
        list[Path], typer.Option(help="JSON or JSONL of predictions on a set; may be repeated.")
    ],
) -> None:
    """Score predictions of guard models: F1 of each set and task, and their means.

    Harmful, or refusal, is positive. An output that cannot be read is wrong, once. A row has its
    output under predict, prediction, answer or generated, and its labels under
    prompt_harm_label, response_harm_label, response_refusal_label, label or output; a file is
    called as its set, for instance WildGuardTest.jsonl. To ask a model:
    `omni-eval CHECKPOINT --suite guard --data DIR`.

    Example: `omni-eval guard --answers predictions/Aegis.json`
    """
    from rich.console import Console

    from .grid import Grid, show
    from .suites.guard import rescore

    try:
        lines, means = rescore(answers)
    except (ValueError, OSError) as error:
        raise refused(error) from error
    cells = [[name, task, "n/a" if score is None else f"{score:.2f}", f"{count:,}", f"{unread:,}"]
             for name, task, score, count, unread in lines]  # fmt: skip
    console = Console()
    show(Grid(["set", "task", "F1", "n", "unparsable"], cells), console)
    for name, mean in means.items():
        what = "mean of the three tasks" if name == "tasks" else f"{name}, weighted by samples"
        console.print(f"{what}: {mean:.2f}", highlight=False)
