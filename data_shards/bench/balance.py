"""How much longer than the average of all ranks the slowest one works on a step."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..plan.epoch import spread_of
from ..plan.plan import deal
from .lengths import MIXES, lengths_of, plan_of
from .result import Result

RANKS, EACH = 8, 4  # packs of a rank in a step


def run(folder: Path, small: bool = False) -> Result:
    """Assign the packs of many steps; the spread of a mix is the mean of (slowest / mean - 1)."""
    rows = [_spread(mix, 15 if small else 100) for mix in MIXES]
    spread = max(row["spread"] for row in rows)
    even = all(row["equal counts"] for row in rows)
    return Result(spread <= 0.03 and even, {"spread": spread}, rows)


def _spread(mix: str, steps: int) -> dict[str, Any]:
    plan = plan_of({mix: lengths_of(mix, 20_000)}, packs_per_step=RANKS * EACH)
    spreads, in_turn, even = [], [], True
    for step in islice(plan.steps(), steps):
        assigned = deal(step.packs, RANKS)
        even &= all(len(hand) == EACH for hand in assigned)
        even &= {p.number for hand in assigned for p in hand} == {p.number for p in step.packs}
        spreads.append(spread_of(step, RANKS))
        in_turn.append([sum(p.cost for p in step.packs[rank::RANKS]) for rank in range(RANKS)])
    turns = np.array(in_turn).max(1) / np.array(in_turn).mean(1) - 1
    return {
        "mix": mix,
        "spread": round(float(np.mean(spreads)), 5),
        "worst step": round(max(spreads), 5),
        "packs dealt in turn": round(float(turns.mean()), 5),
        "equal counts": even,
    }
