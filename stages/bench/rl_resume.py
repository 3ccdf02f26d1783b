"""Kill a stage that learns from its own answers at random, and let it go on."""

import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_shards.bench import forked
from data_shards.bench.result import Result

from .life import losses

STEPS, AFTER, KILLS = 18, 10, 6
FEW, SOON = 8, 4  # of a small run: steps, and those compared


def run(folder: Path, small: bool = False, tamper: Any = None) -> Result:
    """Kill a run at six random moments, each a run of its own; compare each with one never killed.

    A rollout is two steps of two turns with top-p, groups without a spread are replaced, and every
    step is saved. What is compared: the losses of the ten steps after the kill, and the weights.

    Args:
        folder: to work in.
        small: one kill, and no more.
        tamper: called with a run's folder between kill and continuation; to see the bench fail.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(0)
    steps, compared = (FEW, SOON) if small else (STEPS, AFTER)
    forked.wait(_start(folder, folder / "whole", steps), folder)
    straight, rows = dict(losses(folder / "whole")), []
    for number in range(1 if small else KILLS):
        name = folder / f"killed-{number}"
        after = chance.randrange(2, steps - compared)
        killed = _kill(_start(folder, name, steps), name, after, chance.uniform(0, 0.5))
        done = losses(name)[-1][0]
        if tamper:
            tamper(name)
        forked.wait(_start(folder, name, steps), folder)
        found = dict(losses(name))
        later = [step for step in range(done + 1, done + 1 + compared) if step <= steps]
        rows.append({
            "killed after step": done, "killed": killed, "steps compared": len(later),
            "losses identical": all(found[step] == straight[step] for step in later),
            "weights identical": _weights(name) == _weights(folder / "whole"),
        })  # fmt: skip
    same = all(row["losses identical"] and row["weights identical"] for row in rows)
    kills = sum(row["killed"] for row in rows)
    return Result(same and kills == len(rows), {"identical": same, "kills": kills}, rows)


def train(run: Path, steps: int) -> None:
    """Train the stage, or go on with it."""
    from accelerate import Accelerator

    from ..recipe.schema import Recipe, StageConfig
    from ..training.chain import run_recipe

    rollout = {
        "environment": {"kind": f"{__package__}.worlds:Letters", "media": "any"}, "prompts": 4,
        "group": 4, "max_new_tokens": 8, "attempts": 2, "updates": 2, "top_p": 0.9, "rounds": 2,
    }  # fmt: skip
    stage = StageConfig(name="rl", steps=steps, trainable={"*": 1e-3}, objective="grpo",
                        rollout=rollout, attach=_modalities())  # fmt: skip
    recipe = Recipe(output=str(run), text="tiny:llama", stages=[stage], precision="fp32",
                    trackers=[], save_seconds=0.0)  # fmt: skip
    run_recipe(recipe, Accelerator(cpu=True))


def _modalities() -> dict[str, Any]:
    from ..recipe.read import load_recipe

    vision, audio, *_ = load_recipe("tiny").stages
    return vision.attach | audio.attach


def _start(folder: Path, run: Path, steps: int) -> list[Any]:
    return forked.start(train, (run, steps), 1, folder)


def _kill(processes: Sequence[Any], run: Path, after: int, wait: float) -> bool:
    """Kill a run some time after a step; return whether it was still going."""
    [process] = processes
    end = time.monotonic() + 240
    while process.is_alive() and time.monotonic() < end:
        if (run / "log.jsonl").is_file() and (found := losses(run)) and found[-1][0] >= after:
            break
        time.sleep(0.01)
    time.sleep(wait)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join(timeout=60)
    return process.exitcode == -signal.SIGKILL


def _weights(run: Path) -> bytes:
    return (run / "rl" / "model.safetensors").read_bytes()
