"""Reinforcement on a reduced game of cards: better on hands that were held out, or not."""

from functools import partial
from pathlib import Path
from typing import Any

from data_shards.bench.result import Result

from . import reinforced

WORLD: dict[str, Any] = {"kind": "generalpoints", "answer": "formula", "cards": 3, "high": 10,
                         "target": 6, "targets": 12, "heldout": 0.25}  # fmt: skip
TRAIN, HELDOUT = WORLD | {"split": "train"}, WORLD | {"split": "heldout"}
SHIFTS = {
    "other targets": HELDOUT | {"target": 18},
    "other wordings": HELDOUT | {"wordings": 12},
}
"""another rule, another look: no card of the game is a face card, and none is drawn"""
SOLVED, WARM_UP, STEPS, RATE, ASKED, DRAWN = 10_000, 250, 100, 2.0e-4, 400, 4
KL = 0.1  # of the divergence from the warm-up
NEW = 24  # tokens of an answer

permuted = reinforced.Permuted(TRAIN)


def run(folder: Path, small: bool = False, seeds: int = 1) -> Result:
    """Warm up on the solver's answers, then learn from the verifier; ask hands of neither.

    The game: three cards of 1 to 10 that are to make the number that is asked for, 6 to 17. A
    quarter of the hands is held out. The recipe is generalpoints_text with a small random Llama; a
    control is paid what other answers to the same prompt earn. Beside them, not asked for: more of
    the solver's answers at equal compute, and all arms where the rule or the wording has changed.
    A score is of answers that are drawn as a rollout draws them, one attempt; intervals resample
    hands. Greedy answers are shown beside: their score says how often the likeliest answer is
    right, which reinforcement, learning from all that are drawn, moves less.

    Args:
        folder: of shards, models and runs.
        small: a few steps, which learn nothing: the run is ok if all of it ran.
        seeds: of models, of what they draw, and of what is drawn for them.
    """
    measured = [_arms(folder / f"seed-{seed}", seed, small) for seed in range(seeds)]
    found = reinforced.added([one.found for one in measured])
    rows = reinforced.rows_of(found, "held-out solved %")
    reinforced.add_shifts(rows, measured, {"greedy": HELDOUT}, partial(_measure, small, 0))
    reinforced.add_shifts(rows, measured, SHIFTS, partial(_measure, small, DRAWN))
    figures = reinforced.figures_of(found, **reinforced.costs(measured))
    return Result(small or reinforced.holds(figures), figures, rows)


def _arms(folder: Path, seed: int, small: bool) -> reinforced.Measured:
    """Return what the arms of a seed score."""
    warm_up, steps = (4, 2) if small else (WARM_UP, STEPS)
    shards = reinforced.write_solutions(folder / "shards", WORLD, 64 if small else SOLVED)
    size = (32, 1) if small else (128, 3)
    prompts = reinforced.prompts_of(TRAIN)
    parameters = reinforced.write_model(folder / "model", prompts, *size, seed=seed)
    bench = reinforced.Bench("generalpoints_text", folder, shards, TRAIN, f"{__name__}:permuted", [
        "stages.warm_up.trainable={language_model: 2.0e-3}", f"stages.warm_up.steps={warm_up}",
        # short rows: on a CPU, attention over a long one costs more than its parts
        "stages.warm_up.data.batch_size=8", "stages.warm_up.data.accumulate=8",
        f"stages.rl.trainable={{language_model: {RATE}}}", f"stages.rl.steps={steps}",
        # what permuted rewards would ruin: without, 100 steps of noise leave nothing
        f"stages.rl.objective.kl={KL}", "stages.rl.objective.advantage=batch",
        "stages.rl.final_lr=0.1",
        "stages.rl.rollout.prompts=32", "stages.rl.rollout.batch=32",
        f"stages.rl.rollout.max_tokens={reinforced.ROW}",
        f"stages.rl.rollout.max_new_tokens={NEW}",
    ], seed, parameters)  # fmt: skip
    measure = partial(_measure, small, DRAWN, world=HELDOUT)
    return reinforced.arms(bench, measure, sft=True)


def _measure(small: bool, drawn: int, checkpoint: Path, world: dict[str, Any]) -> Any:
    return reinforced.solved(checkpoint, world, 32 if small else ASKED, NEW, drawn=drawn)
