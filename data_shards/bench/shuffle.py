"""How well the order of samples is mixed, and what three epochs leave in memory."""

import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from ..index.index import Index
from ..plan.plan import Plan, PlanConfig
from ..read.loader import Loader
from .data import Bare, write
from .lengths import Numbered, lengths_of
from .result import Result

SHARDS, EPOCHS, BATCH = 8, 3, 16


def run(folder: Path, small: bool = False) -> Result:
    """Look at the order of plans, and at the memory of a process that loads three epochs."""
    size = 8000 if small else 80_000
    shards = ((SHARDS, None), (64, None), (64, 8))
    rows: list[dict[str, Any]] = [_neighbours(size, *s) for s in shards]
    rows = [row | {"growth": ""} for row in rows]
    growth = _in_a_child(write(folder / "shards", 160 if small else 4000, shard_samples=500))
    rows.append(dict.fromkeys(rows[0], "") | {"order": f"{EPOCHS} epochs loaded",
                                              "growth": f"{growth:.1f} MB"})  # fmt: skip
    ratio = max((row["ratio"] for row in rows[:3]), key=lambda ratio: abs(ratio - 1))
    ok = abs(ratio - 1) <= 0.1 and growth < 20
    return Result(ok, {"neighbour_ratio": ratio, "growth_mb": round(growth, 2)}, rows)


def _neighbours(size: int, shards: int, window: int | None) -> dict[str, Any]:
    """Compare how often neighbours are of one shard with what chance gives (in a window)."""
    index: Any = Numbered(size, shards)
    config = PlanConfig({"all": 1.0}, max_samples=100, max_length=1 << 20, shuffle_shards=window)
    plan = Plan({"all": index}, config, {"all": lengths_of("text", size)})
    rows = [item.row for step in islice(plan.steps(), size // 100)
            for pack in step.packs for item in pack.items]  # fmt: skip
    if sorted(rows) != list(range(size)):
        raise RuntimeError("an epoch is not every sample once")
    shard = index.samples["shard"][rows]
    share = float((shard[1:] == shard[:-1]).mean())
    mixed, each = window or shards, size // shards
    ideal = (each - 1) / (mixed * each - 1)
    return {
        "order": f"{shards} shards, " + (f"windows of {window}" if window else "all at once"),
        "same shard": round(share, 4),
        "ideal": round(ideal, 4),
        "ratio": round(share / ideal, 4),
    }


def _in_a_child(shards: Path) -> float:
    """Return by how many MB a new process grows that loads the shards."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_growth, shards).result()


def _growth(shards: Path) -> float:
    """Load three epochs; return the most memory in MB over that after a quarter of the first."""
    index, processor = Index.open(shards), Bare()
    config = PlanConfig({"all": 1.0}, max_samples=BATCH, max_length=1 << 20)
    plan = Plan({"all": index}, config, {"all": index.lengths(processor)})
    batches = Loader(plan, processor, workers=2, prefetch_bytes=16 << 20)
    per_epoch = len(index) // BATCH
    first = 0.0
    for n, _ in enumerate(islice(batches, EPOCHS * per_epoch), 1):
        if n == max(1, per_epoch // 4):
            first = _most_memory()
    return _most_memory() - first


def _most_memory() -> float:
    """Return the most memory that this process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
