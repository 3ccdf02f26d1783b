"""kill -9 an evaluation, start it again: at most one batch is asked twice, the table is the same.

The batches of an evaluation that is never killed tell when half of it is done. What was asked is
written by the process itself before each answer, so that it cannot forget what it lost.
"""

import json
import time
from pathlib import Path

from data_shards.bench.forked import wait
from data_shards.bench.result import Result

from .life import BATCH, asked, start, write_model, write_pictures

TIMEOUT = 300.0  # seconds of one evaluation


def run(folder: Path, small: bool = False, forget: bool = False) -> Result:
    """Compare killed evaluations with one that is not.

    Args:
        folder: to work in.
        small: one kill, at half of the questions, instead of three.
        forget: delete the answers after each kill; to see the bench fail.
    """
    model, data = write_model(folder / "model"), write_pictures(folder / "data")
    whole = _finish(folder / "whole", model, data)
    rows, again, same = [], [], []
    for percent in (50,) if small else (25, 50, 75):
        place = folder / f"killed{percent}"
        before = _kill(place, model, data, len(whole) * percent // 100)
        if forget:
            for file in (place / "store").iterdir():
                file.unlink()
        after = _finish(place, model, data)[len(before) :]
        first = {question for batch in before for question in batch}
        twice = [question for batch in after for question in batch if question in first]
        again.append(len(twice))
        same.append(_table(place) == _table(folder / "whole"))
        rows.append({"killed at": f"{percent} %", "batches before": len(before),
                     "batches after": len(after), "of all": len(whole),
                     "questions asked twice": len(twice), "same table": same[-1]})  # fmt: skip
    figures = {"asked_twice": max(again), "batch": BATCH, "same_table": all(same)}
    return Result(max(again) <= BATCH and all(same), figures, rows)


def _finish(out: Path, model: Path, data: Path) -> list[list[str]]:
    wait([start(model, data, out, out.with_suffix(".log"))], out.parent)
    return asked(out.with_suffix(".log"))


def _kill(out: Path, model: Path, data: Path, batches: int) -> list[list[str]]:
    log = out.with_suffix(".log")
    process = start(model, data, out, log)
    deadline = time.monotonic() + TIMEOUT
    while len(asked(log)) < batches:
        if not process.is_alive() or time.monotonic() > deadline:
            raise RuntimeError(f"an evaluation into {out} ended or hung before {batches} batches")
        time.sleep(0.001)
    process.kill()
    process.join()
    return asked(log)


def _table(out: Path) -> object:
    return json.loads((out / "rows.json").read_text())["rows"]
