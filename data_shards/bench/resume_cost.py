"""What a checkpoint pays for the data, and how soon training goes on from one."""

import json
import os
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..index.index import Index, text_tokens
from ..index.rows import scan_rows
from ..index.sidecar import _scan_file, update, write_table
from ..plan.plan import Plan, PlanConfig
from .data import Bare, write
from .result import Result

MOST_BYTES, MOST_SECONDS = 16_000, 1.0
SAMPLES = 1000  # of a shard
SOURCES = {"both": ("image", "audio"), "pictures": ("image",), "sounds": ("audio",)}
MIXTURE = {"both": 0.5, "pictures": {0: 0.3, 100: 0.1}, "sounds": {0: 0.2, 100: 0.4}}


def run(folder: Path, small: bool = False, shards: int | None = None) -> Result:
    """Resume in the middle of a million samples, in the seconds of a clock.

    Args:
        folder: to work in.
        small: 60,000 samples.
        shards: of 1000 samples each, over three sources; default 1002 (small: 60).
    """
    shards = shards or (60 if small else 1002)
    for number, (name, media) in enumerate(SOURCES.items()):
        _write_many(folder / name, shards // len(SOURCES), number, media)
    state, most = _states(folder, 40 if small else 400)
    rows = [_first_batch(folder, state) for _ in range(5)]
    # the quickest: whatever else runs on the machine can only add to it
    seconds, cpu = (min(row[name] for row in rows) for name in ("in all", "cpu"))
    figures = {"state_bytes": most, "first_batch_s": seconds, "first_batch_cpu_s": cpu,
               "samples": shards * SAMPLES}  # fmt: skip
    return Result(most <= MOST_BYTES and seconds <= MOST_SECONDS, figures, rows)


def _write_many(folder: Path, shards: int, seed: int, media: tuple[str, ...]) -> None:
    """Write one shard under many names, with the index that scanning all of them would give."""
    write(folder, SAMPLES, seed, SAMPLES, media=media)
    first = folder / "train-000000.tar"
    paths = [first, *(folder / f"train-{n:06d}.tar" for n in range(1, shards))]
    home = folder / ".data_shards"
    (home / "scan").mkdir(parents=True)
    scan_rows(first).save(_scan_file(home, first))
    for path in paths[1:]:
        os.link(first, path)
        os.link(_scan_file(home, first), _scan_file(home, path))
    side, processor = update(folder, paths), Bare()
    table = side.tables / f"tokens-{processor.fingerprint}.npy"
    counts = text_tokens(side, processor, side.shards[:1])
    write_table(table, np.tile(counts, shards))


def _plan(folder: Path) -> tuple[Plan, dict[str, float]]:
    """Open the plan as a training run does; return the seconds of each part as well."""
    at, processor = [time.perf_counter()], Bare()
    indices = {name: Index.open(folder / name) for name in SOURCES}
    at.append(time.perf_counter())
    lengths = {name: index.lengths(processor) for name, index in indices.items()}
    at.append(time.perf_counter())
    config = PlanConfig(MIXTURE, by="tokens", packs_per_step=8, max_tokens=4096)
    plan = Plan(indices, config, lengths)
    at.append(time.perf_counter())
    return plan, dict(zip(("open", "lengths", "plan"), np.diff(at).round(3).tolist(), strict=True))


def _states(folder: Path, steps: int) -> tuple[dict[str, Any], int]:
    """Return the state after so many steps and a half, and the bytes of the largest on the way."""
    from ..read.loader import Loader

    plan, _ = _plan(folder)
    loader, most = Loader(plan, Bare(), workers=0), 0
    for step in islice(plan.steps(), steps):
        loader.load_state_dict({**loader.state_dict(), "plan": step.state_after})
        most = max(most, len(json.dumps(loader.state_dict())))
    *_, (_, state) = islice(loader, 3)
    return state, max(most, len(json.dumps(state)))


def _first_batch(folder: Path, state: dict[str, Any]) -> dict[str, Any]:
    from ..read.loader import Loader

    begin, cpu = time.perf_counter(), time.process_time()
    plan, row = _plan(folder)
    middle = time.perf_counter()
    loader = Loader(plan, Bare())
    loader.load_state_dict(state)
    batches = iter(loader)
    batch, _ = next(batches)
    end, cpu = time.perf_counter(), time.process_time() - cpu
    batches.close()  # type: ignore[attr-defined]
    row |= {"read": round(end - middle, 3), "in all": round(end - begin, 3), "cpu": round(cpu, 3)}
    return {**row, "samples of the batch": batch.documents.samples}
