"""Reinforcement on short routes through a city: better on routes that were held out, or not."""

from functools import partial
from pathlib import Path
from typing import Any

from data_shards.bench.result import Result
from eval.scoring.statistics import score

from . import reinforced
from .llama import write_model

WORLD: dict[str, Any] = {"kind": "navigation", "answer": "action", "legs": 1, "blocks": 2,
                         "heldout": 0.25}  # fmt: skip
TRAIN, HELDOUT = WORLD | {"split": "train"}, WORLD | {"split": "heldout"}
SHIFTS = {
    "relative actions": HELDOUT | {"actions": "relative"},
    "second city": HELDOUT | {"city": "second"},
}
SOLVED, WARM_UP, STEPS, PROMPTS, ASKED = 8000, 40, 100, 8, 200
NEW = 12  # tokens of an answer
RATE = "stages.rl.trainable={language_model: 5.0e-4}"

permuted = reinforced.Permuted(TRAIN)


def run(folder: Path, small: bool = False, seeds: int = 1) -> Result:
    """Warm up on the solver's actions, then learn from the verifier; ask routes of neither.

    The world: routes of one leg with absolute actions, in words. A quarter of them is held out.
    The recipe is navigation_text with a small random Llama, paid for first steps, the turns, as it
    knows the others after its warm-up; a control is paid what other answers to the same prompt
    earn. Beside them, not asked for: more of the solver's actions at equal compute, to the same
    prompt and to several, and all arms with relative actions and with the landmarks of another
    city. A score is of routes with every step right, by greedy answers;
    intervals resample routes.

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
    sources = reinforced.write_sources(folder, WORLD, 64 if small else SOLVED)
    width, layers = (32, 1) if small else (128, 3)
    prompts = reinforced.prompts_of(reinforced.in_all_wordings(TRAIN))
    parameters = write_model(folder / "model", prompts, width, layers, seed, width**-0.5)
    bench = reinforced.Bench(
        "navigation_text", folder, sources, TRAIN, f"{__name__}:permuted",
        [*reinforced.settings(warm_up, steps, PROMPTS, NEW), RATE], seed, parameters,
    )  # fmt: skip
    return reinforced.arms(bench, partial(_measure, small, world=HELDOUT))


def _measure(small: bool, checkpoint: Path, world: dict[str, Any]) -> reinforced.Tallies:
    return reinforced.solved(checkpoint, world, 6 if small else ASKED, NEW, every_step=True)


def whole(steps: reinforced.Tallies) -> reinforced.Tallies:
    """Return which routes have every step right, from how many have."""
    return {route: [[float(right == of), 1.0]] for route, [[right, of]] in steps.items()}
