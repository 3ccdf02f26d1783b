"""Kill a training at random, and stop it: it must go on as if nothing had happened."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from data_shards.bench.forked import wait
from data_shards.bench.result import Result

from .life import losses, start, write_sources

STEPS = 24


def run(folder: Path, small: bool = False, tamper: Any = None) -> Result:
    """Compare runs that were killed and stopped with one that was not.

    Args:
        folder: to work in.
        small: one run that is killed once, and no more.
        tamper: called with a run's folder between a kill and the continuation; to see it fail.
    """
    write_sources(folder)
    steps, chance = (10 if small else STEPS), random.Random(0)
    whole = folder / "whole"
    wait(start(folder, 1, _settings(whole, 1, steps)), folder)
    straight = dict(losses(whole))
    ways = [(1, 1, signal.SIGKILL)] if small else [
        (0, 2, signal.SIGKILL), (1, 2, signal.SIGKILL), (2, 2, signal.SIGKILL),
        (2, 1, signal.SIGTERM),
    ]  # fmt: skip
    rows, all_kills = [], 0
    for threads, kills, number in ways:
        name = f"{number.name.lower()}-{threads}"
        settings = _settings(folder / name, threads, steps)
        for kill in range(1, kills + 1):
            least = kill * steps // (kills + 2) + chance.randrange(2)
            all_kills += _kill(folder, folder / name, settings, number, least, chance)
            if tamper:
                tamper(folder / name)
        wait(start(folder, 1, settings), folder)
        found = losses(folder / name)
        after = [(step, loss) for step, loss in found if loss != straight[step]]
        again = len(found) - len(straight)
        rows.append({
            "threads": threads, "signal": number.name, "times": kills, "steps": len(straight),
            "steps run again": again, "losses identical": not after and len(dict(found)) == steps,
            "weights identical": _weights(folder / name) == _weights(whole),
        })  # fmt: skip
    same = all(row["losses identical"] and row["weights identical"] for row in rows)
    enough = all_kills == sum(kills for _, kills, _ in ways)
    return Result(same and enough, {"identical": same, "interruptions": all_kills}, rows)


def _settings(run: Path, threads: int, steps: int) -> list[str]:
    return [f"output={run}", f"threads={threads}", f"stages.omni.steps={steps}",
            "save_seconds=0.4"]  # fmt: skip


def _kill(
    folder: Path, run: Path, settings: list[str], number: signal.Signals, least: int, chance: Any
) -> int:
    """Start a run, send it a signal some time after step `least`; return if it was still going."""
    [process] = start(folder, 1, settings)
    end = time.monotonic() + 240
    while process.is_alive() and time.monotonic() < end:
        checkpoints = list((run / "resume").glob("*/step-*/state.json"))
        if checkpoints and (run / "log.jsonl").is_file() and losses(run)[-1][0] >= least:
            break
        time.sleep(0.01)
    time.sleep(chance.uniform(0, 0.3))
    if (running := process.is_alive()) and process.pid:
        os.kill(process.pid, number)
    process.join(timeout=120)
    return int(running and process.exitcode in (-signal.SIGKILL, 128 + signal.SIGTERM))


def _weights(run: Path) -> bytes:
    return (run / "omni" / "model.safetensors").read_bytes()
