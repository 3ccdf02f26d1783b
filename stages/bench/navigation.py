"""Reinforcement on short routes through a city: better on routes that were held out, or not."""

from functools import partial
from pathlib import Path
from typing import Any

from data_shards.bench.result import Result
from eval.scoring.statistics import score

from . import reinforced

WORLD: dict[str, Any] = {"kind": "navigation", "answer": "action", "legs": 2, "blocks": 2,
                         "heldout": 0.25}  # fmt: skip
TRAIN, HELDOUT = WORLD | {"split": "train"}, WORLD | {"split": "heldout"}
SHIFTS = {
    "relative actions": HELDOUT | {"actions": "relative"},
    "second city": HELDOUT | {"city": "second"},
}
WARM_UP, STEPS, ASKED = 150, 100, 100
NEW = 12  # tokens of an answer

permuted = reinforced.Permuted(TRAIN | {"begin": "anywhere"})


def run(folder: Path, small: bool = False, seeds: int = 1) -> Result:
    """Warm up on the solver's actions, then learn from the verifier; ask routes of neither.

    The world: routes of two legs with absolute actions, in words. A quarter of them is held out.
    The recipe is navigation_text with a small random Llama; a control is paid what other answers
    to the same prompt earn. Beside them, not asked for: more of the solver's actions at equal
    compute, and all arms with relative actions and with the landmarks of another city. A score is
    of routes with every step right, by greedy answers; intervals resample routes.

    Args:
        folder: of shards, model and runs.
        small: a few steps, which learn nothing: the run is ok if all of it ran.
        seeds: of models, of what they draw, and of what is drawn for them.
    """
    measured = [_arms(folder / f"seed-{seed}", seed, small) for seed in range(seeds)]
    routes = reinforced.added([{arm: whole(found) for arm, found in one.found.items()}
                               for one in measured])  # fmt: skip
    steps = reinforced.added([one.found for one in measured])
    rows = reinforced.rows_of(routes, "held-out routes %")
    for row in rows:
        row["steps %"] = round(score(steps[row["arm"]]), 1)
    reinforced.add_shifts(
        rows, measured, SHIFTS, lambda path, world: whole(_measure(small, path, world))
    )
    figures = reinforced.figures_of(routes, **reinforced.costs(measured))
    return Result(small or reinforced.holds(figures), figures, rows)


def _arms(folder: Path, seed: int, small: bool) -> reinforced.Measured:
    """Return what the arms of a seed score."""
    warm_up, steps = (4, 2) if small else (WARM_UP, STEPS)
    shards = reinforced.write_solutions(folder / "shards", WORLD, 64 if small else 3000)
    size, prompts = (32, 1) if small else (96, 4), reinforced.prompts_of(TRAIN)
    parameters = reinforced.write_model(folder / "model", prompts, *size, seed=seed)
    learns = permuted.world
    bench = reinforced.Bench("navigation_text", folder, shards, learns, f"{__name__}:permuted", [
        "stages.warm_up.trainable={language_model: 2.0e-3}", f"stages.warm_up.steps={warm_up}",
        "stages.warm_up.data.batch_size=8", "stages.warm_up.data.accumulate=4",
        "stages.rl.trainable={language_model: 2.0e-4}", f"stages.rl.steps={steps}",
        f"stages.rl.rollout.max_new_tokens={NEW}", f"stages.rl.rollout.max_tokens={reinforced.ROW}",
    ], seed, parameters)  # fmt: skip
    return reinforced.arms(bench, partial(_measure, small, world=HELDOUT), sft=True)


def _measure(small: bool, checkpoint: Path, world: dict[str, Any]) -> reinforced.Tallies:
    return reinforced.solved(checkpoint, world, 6 if small else ASKED, NEW, every_step=True)


def whole(steps: reinforced.Tallies) -> reinforced.Tallies:
    """Return which routes have every step right, from how many have."""
    return {route: [[float(right == of), 1.0]] for route, [[right, of]] in steps.items()}
