"""Train on one rank, then two, then one again: no step may notice."""

from pathlib import Path
from signal import SIGTERM
from typing import Any

from data_shards.bench.forked import wait
from data_shards.bench.result import Result

from .life import losses, samples, start, write_sources

STEPS, PACKS = 18, 4  # packs of a step over all ranks
CLOSE = 1e-5


def run(folder: Path, small: bool = False, tamper: Any = None) -> Result:
    """Compare samples and losses of every step with those of one rank that was never stopped.

    Args:
        folder: to work in.
        small: DDP alone, fewer steps.
        tamper: called with the folder of a stopped run; to see the bench fail.
    """
    write_sources(folder)
    steps = 6 if small else STEPS
    third = steps // 3
    ways = {"1": ("none", [(1, 0)]),
            "1 -> 2 -> 1": ("none", [(1, third), (2, 2 * third), (1, 0)])}  # fmt: skip
    if not small:
        ways["2 sharded -> 1"] = ("full", [(2, steps // 2), (1, 0)])
        ways["1 -> 2 sharded"] = ("full", [(1, steps // 2), (2, 0)])
    rows, straight = [], {}
    for way, (sharding, phases) in ways.items():
        target = folder / way.replace(" ", "").replace(">", "")
        settings = [f"output={target}", f"sharding={sharding}", f"stages.omni.steps={steps}",
                    "stages.omni.data.accumulate=1",
                    f"stages.omni.data.packs_per_step={PACKS}"]  # fmt: skip
        for number, (ranks, stop) in enumerate(phases):
            if tamper and number:
                tamper(target)
            wait(start(folder, ranks, settings, stop), folder, 128 + SIGTERM if stop else 0)
        found, read = dict(losses(target)), samples(target)
        straight = straight or {"losses": found, "samples": read}
        worst = max(abs(found.get(s, 9.0) - loss) for s, loss in straight["losses"].items())
        rows.append({"ranks": way, "sharding": sharding, "steps": len(found),
                     "same samples": read == straight["samples"] and len(read) == steps,
                     "largest difference of a loss": float(f"{worst:.1e}")})  # fmt: skip
    same = all(row["same samples"] for row in rows)
    worst = max(row["largest difference of a loss"] for row in rows)
    figures = {"same_samples": same, "loss_difference": worst, "ways": list(ways)}
    return Result(same and worst <= CLOSE, figures, rows)
