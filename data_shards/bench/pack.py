"""Padding of packs, and how long a sample may wait for one."""

from pathlib import Path
from typing import Any

import numpy as np

from .lengths import CAPACITY, MIXES, lengths_of, plan_of
from .result import Result

WINDOW = 256


def run(folder: Path, small: bool = False) -> Result:
    """Pack one epoch of each mix; what the planner did is worked out from its packs alone."""
    rows = [_pack(mix, 2000 if small else 50_000) for mix in MIXES]
    ok = all(row["waste"] <= 0.01 and row["waited"] <= WINDOW and not row["lost"] for row in rows)
    return Result(ok, {"waste": [row["waste"] for row in rows]}, rows)


def _pack(mix: str, count: int) -> dict[str, Any]:
    lengths = lengths_of(mix, count)
    # as packs of one sample each a plan tells its order: the number of each draw
    order = _rows(plan_of({mix: lengths}, max_tokens=None, max_samples=1, max_length=CAPACITY))
    drawn = np.empty(count, np.int64)
    drawn[[next(order)[0] for _ in range(count)]] = np.arange(count)
    packs, seen = [], np.zeros(count, np.int64)
    for rows in _rows(plan_of({mix: lengths}, window=WINDOW)):
        seen[rows] += 1
        if (seen > 1).any():  # the next epoch begins
            break
        packs.append(rows)
    tokens = sum(int(lengths.tokens[rows].sum()) for rows in packs)
    given = np.concatenate(packs)
    # samples leave in this order; each waits while later draws leave before it
    latest = np.maximum.accumulate(drawn[given])
    waited = int((latest - drawn[given]).max())
    behind = int(latest[-1]) + 1 - len(given)  # drawn before the last, and in no pack yet
    return {
        "mix": mix,
        "mean tokens": round(float(lengths.tokens.mean())),
        "packs": len(packs),
        "waste": round(1 - tokens / (CAPACITY * len(packs)), 5),
        "waited": waited,
        "lost": max(0, behind - WINDOW),  # up to a window of samples may be left behind
    }


def _rows(plan: Any) -> Any:
    for step in plan.steps():
        for pack in step.packs:
            yield [item.row for item in pack.items]
