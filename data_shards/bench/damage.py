"""Feed the loader what the world holds: nothing intact may be lost, nothing bad go unnamed."""

import hashlib
import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ..index.index import Index
from ..plan.plan import Plan, PlanConfig
from .data import Bare
from .hostile import Hostile
from .result import Result


def run(folder: Path, small: bool = False) -> Result:
    """Read shards with every kind of damage for one epoch, without threads and with some.

    Args:
        folder: to work in.
        small: with threads only.
    """
    # deep, so that a name such as ../../x would still lead to a place inside of `folder`
    world = Hostile(folder / "a" / "b" / "shards")
    intact = Counter(
        (where, _content(Bare().pack([Bare().encode(sample.conversation())])))
        for where, sample in world.intact.items()
    )
    rows: list[dict[str, Any]] = []
    lost = uncounted = sleeps = 0
    for workers in (2,) if small else (0, 2):
        listed = folder / f"quarantine{workers}.jsonl"
        with patch("time.sleep", side_effect=lambda _: None) as sleep:
            delivered = _read(world.folder, workers, listed)
        told = [json.loads(line) for line in listed.read_text(encoding="utf-8").splitlines()]
        missing, extra = intact - delivered, delivered - intact
        rows += (damage := [_row(workers, planted, told) for planted in world.bad])
        rows.append({"threads": workers, "damage": f"none: {len(intact)} intact samples",
                     "ok": not missing, "told": _places(missing)})  # fmt: skip
        rows.append({"threads": workers, "damage": "delivered, but not intact",
                     "ok": not extra, "told": _places(extra)})  # fmt: skip
        lost, sleeps = lost + missing.total(), sleeps + sleep.call_count
        uncounted += sum(not row["ok"] for row in damage) + extra.total()
    escaped = list(folder.rglob("*escaped*"))
    figures = {"lost": lost, "uncounted": uncounted, "intact": len(intact),
               "bad": len(world.bad), "sleeps": sleeps, "escaped": len(escaped)}  # fmt: skip
    return Result(not (lost or uncounted or sleeps or escaped), figures, rows)


def _read(folder: Path, workers: int, listed: Path) -> Counter[tuple[str, str]]:
    """Read each sample of the index once; return what came: place and content."""
    from ..read.loader import Loader

    index = Index.open(folder)
    config = PlanConfig({"world": 1.0}, max_samples=1)
    plan = Plan({"world": index}, config, {"world": index.lengths(Bare())})
    limits = {"max_bad_share": 1.0, "max_bad_run": len(index) + 1, "timeout": 60.0}
    loader = Loader(plan, Bare(), workers=workers, quarantine=listed, **limits)
    return Counter(
        (batch.documents.keys[0], _content(batch.tensors))
        for batch, _ in islice(loader, len(index))
        if batch.documents.samples
    )


def _content(batch: dict[str, Any]) -> str:
    found = hashlib.sha256()
    for tensor in (batch["input_ids"], *batch["pixels"], *batch["samples"]):
        found.update(tensor.numpy().tobytes())
    return found.hexdigest()


def _row(workers: int, planted: Any, told: list[dict[str, Any]]) -> dict[str, Any]:
    here = [row["reason"] for row in told
            if (row["shard"], row["key"]) == (planted.shard, planted.key)]  # fmt: skip
    found = next((reason for reason in here if planted.reason in reason), "")
    said = found or f"no {planted.reason!r} in {here}"
    return {"threads": workers, "damage": planted.case, "ok": bool(found), "told": said[:80]}


def _places(found: Counter[tuple[str, str]]) -> str:
    return ", ".join(where for where, _ in list(found)[:3])
