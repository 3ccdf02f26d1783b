"""Change the number of ranks: no step may notice."""

import os
from collections.abc import Callable
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from omni.files.atomic import write_json

from .data import Bare
from .forked import start, wait
from .life import digest, load, plan_of, write_sources
from .result import Result

PACKS = 8  # of a step
# (ranks, batches of each); the second and third changes come in the middle of a step
CHAIN = ((1, 12), (2, 4), (4, 7), (2, 8), (1, 8))

Tamper = Callable[[dict[str, Any]], dict[str, Any]]


def run(folder: Path, small: bool = False, tamper: Tamper | None = None) -> Result:
    """Compare what every step holds with 1, 2 and 4 ranks, and with ranks that change.

    Args:
        folder: to work in.
        small: fewer samples and steps.
        tamper: changes the state at every change of ranks; to see the bench fail.
    """
    steps = sum(ranks * batches for ranks, batches in CHAIN) // PACKS * (1 if small else 4)
    write_sources(folder, 40 if small else 200)
    ways = {f"{ranks}": [(ranks, steps * PACKS // ranks)] for ranks in (1, 2, 4)}
    ways[" -> ".join(str(ranks) for ranks, _ in CHAIN)] = [*CHAIN] * (1 if small else 4)
    found, rows = {}, []
    for way, phases in ways.items():
        found[way], in_step = _run(folder, phases, tamper)
        same = found[way] == found["1"]
        packs = [len(packs) for packs in found[way].values()]
        rows.append({"ranks": way, "steps": len(packs), "packs of a step": _range(packs),
                     "ranks in step": in_step, "same samples": same})  # fmt: skip
    same = all(row["same samples"] and row["ranks in step"] for row in rows)
    whole = all(row["steps"] == steps and row["packs of a step"] == f"{PACKS}" for row in rows)
    figures = {"same_steps": same and whole, "steps": steps, "ranks": list(ways)}
    return Result(same and whole, figures, rows)


Steps = dict[str, list[list[Any]]]  # by step: the [number, digest, keys] of its packs, sorted


def _run(folder: Path, phases: list[tuple[int, int]], tamper: Tamper | None) -> tuple[Steps, bool]:
    """Read on one or more numbers of ranks; return the steps and if ranks stayed equal."""
    state, steps, equal = None, {}, True
    for number, (ranks, batches) in enumerate(phases):
        told = folder / "phase.json"
        write_json(folder / "state.json", tamper(state) if tamper and state else state)
        told.unlink(missing_ok=True)
        meet = folder / "meet"
        meet.unlink(missing_ok=True)
        last = number + 1 == len(phases)
        of = [(folder, rank, ranks, batches, last) for rank in range(ranks)]
        wait([process for mine in of for process in start(work, mine, 1, folder)], folder)
        found = load(told)
        state, equal = found["state"], equal and found["equal"]
        for step, *pack in found["packs"]:
            steps.setdefault(str(step), []).append(pack)
    return {step: sorted(packs) for step, packs in steps.items()}, equal


def work(folder: Path, rank: int, ranks: int, batches: int, last: bool) -> None:
    """Be one rank: after each batch, all tell each other which step it was of."""
    import torch.distributed as dist

    from ..read.loader import Loader

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    meet = f"file://{folder / 'meet'}"
    dist.init_process_group("gloo", meet, timedelta(minutes=3), rank=rank, world_size=ranks)
    loader = Loader(plan_of(folder, PACKS), Bare(), rank, ranks, workers=rank % 3)
    if state := load(folder / "state.json"):
        loader.load_state_dict(state)
    packs, equal = [], True
    for batch, now in islice(loader, batches):
        state = now
        mine = [batch.step, batch.pack, digest(batch), batch.documents.keys]
        all_mine: list[Any] = [None] * ranks
        # what must be equal everywhere: whichever rank saves it, any may go on from it
        shared = {name: state[name] for name in ("plan", "taken")}
        dist.all_gather_object(all_mine, (mine, shared))
        equal &= len({pack[0] for pack, _ in all_mine}) == 1
        equal &= all(other == shared for _, other in all_mine)
        packs += [pack for pack, _ in all_mine]
    if rank == 0:
        write_json(folder / "phase.json", {"packs": packs, "equal": equal, "state": state})
    dist.destroy_process_group()


def _range(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"
