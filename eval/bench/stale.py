"""New weights at the same path, other pictures to the same questions: is an old answer used?

Every evaluation writes into one folder. Each is compared with the same evaluation in an empty
folder: it must ask as many questions, and its answers must be the same.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from data_shards.bench.result import Result

from ..answering.store import AnswerStore
from .life import live, write_model, write_pictures


def run(folder: Path, small: bool = False, forget_whose: bool = False) -> Result:
    """Change one thing after the other.

    Args:
        folder: to work in.
        small: 5 questions of a row instead of 40.
        forget_whose: let the store take any answer for this model's; to see the bench fail.
    """
    model, data = write_model(folder / "model"), write_pictures(folder / "data")
    evaluate = partial(_evaluate, folder, model, data, 5 if small else 40, forget_whose)
    rows = [evaluate("(first)"), evaluate("nothing")]
    shutil.rmtree(model)
    write_model(model, seed=1)
    rows.append(evaluate("weights"))
    _change_processor(model)
    rows.append(evaluate("preprocessing"))
    shutil.rmtree(data)
    write_pictures(data, seed=1)
    rows.append(evaluate("pictures"))
    first, again, *changed = rows
    figures = {
        "old_answers": sum(row["in an empty folder"] - row["asked"] for row in changed),
        "as_if_new": all(row["as if new"] for row in rows),
        "asked_when_nothing_changed": again["asked"],
    }
    ok = (
        not figures["old_answers"] and figures["as_if_new"] and first["asked"] > 0 == again["asked"]
    )
    return Result(ok, figures, rows)


def _evaluate(
    folder: Path, model: Path, data: Path, limit: int, forget_whose: bool, changed: str
) -> dict[str, Any]:
    asked: list[str] = []
    fresh: list[str] = []
    empty = folder / f"new {changed}"
    remembering = _forgetful() if forget_whose else nullcontext()
    with remembering:  # without controls: blind, other pictures are the same question
        live(model, data, folder / "out", asked.extend, limit, controls=False)
    live(model, data, empty, fresh.extend, limit, controls=False)
    return {"changed": changed, "asked": len(asked), "in an empty folder": len(fresh),
            "as if new": _answers(folder / "out") == _answers(empty)}  # fmt: skip


@contextmanager
def _forgetful() -> Iterator[None]:
    opened = AnswerStore.__init__

    def open_any(self: AnswerStore, folder: Any = None, of: str = "", *ranks: Any) -> None:
        opened(self, folder, "", *ranks)

    AnswerStore.__init__ = open_any
    try:
        yield
    finally:
        AnswerStore.__init__ = opened


def _change_processor(model: Path) -> None:
    """Change how pictures are shown to the same weights."""
    file = model / "processor_config.json"
    config = json.loads(file.read_text())
    encoder = config["modalities"]["vision"]["encoder"]
    encoder["mean"] = [value / 2 for value in encoder["mean"]]
    file.write_text(json.dumps(config))


def _answers(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
