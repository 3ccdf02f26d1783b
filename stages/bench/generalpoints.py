"""Reinforcement on a reduced game of cards: better on hands that were held out, or not."""

from functools import partial
from pathlib import Path
from typing import Any

from data_shards.bench.result import Result

from . import reinforced

WORLD: dict[str, Any] = {"kind": "generalpoints", "answer": "formula", "cards": 4, "low": 1,
                         "high": 6, "target": 12, "heldout": 0.25}  # fmt: skip
TRAIN, HELDOUT = WORLD | {"split": "train"}, WORLD | {"split": "heldout"}
SHIFTS = {
    "another target": HELDOUT | {"target": 10},
    "other wordings": HELDOUT | {"wordings": 12},
}
"""another rule, another look: no card of the game is a face card, and none is drawn"""
WARM_UP, STEPS, ASKED = 120, 40, 400
NEW = 24  # tokens of an answer

permuted = reinforced.Permuted(TRAIN)


def run(folder: Path, small: bool = False) -> Result:
    """Warm up on the solver's answers, then learn from the verifier; ask hands of neither.

    The game: four cards of 1 to 6 that are to make 12. A quarter of the hands is held out. The
    recipe is generalpoints_text with a small random Llama; a control is paid what other answers
    to the same prompt earn. Beside them, not asked for: more of the solver's answers at equal
    compute, and all arms where the rule or the wording has changed. A score is of greedy answers,
    one attempt; intervals resample hands.

    Args:
        folder: of shards, model and runs.
        small: a few steps, which learn nothing: the run is ok if all of it ran.
    """
    warm_up, steps, asked = (4, 2, 32) if small else (WARM_UP, STEPS, ASKED)
    shards = reinforced.write_solutions(folder / "shards", WORLD, 64 if small else 3000)
    parameters = reinforced.write_model(
        folder / "model", reinforced.prompts_of(TRAIN), *((32, 1) if small else (192, 4))
    )
    bench = reinforced.Bench("generalpoints_text", folder, shards, TRAIN, f"{__name__}:permuted", [
        "stages.warm_up.trainable={language_model: 1.0e-3}", f"stages.warm_up.steps={warm_up}",
        "stages.warm_up.data.batch_size=32",
        "stages.rl.trainable={language_model: 1.0e-4}", f"stages.rl.steps={steps}",
        "stages.rl.rollout.prompts=16", "stages.rl.rollout.batch=16",
        f"stages.rl.rollout.max_tokens={reinforced.ROW}",
        f"stages.rl.rollout.max_new_tokens={NEW}",
    ])  # fmt: skip
    measure = partial(reinforced.solved, count=asked, new_tokens=NEW)
    measured = reinforced.arms(bench, partial(measure, world=HELDOUT), sft=True)
    rows = reinforced.rows_of(measured.found, "held-out solved %")
    reinforced.add_shifts(rows, measured, SHIFTS, measure)
    figures = reinforced.figures_of(
        measured.found, parameters=parameters, seconds=round(measured.seconds)
    )
    return Result(small or reinforced.holds(figures), figures, rows)
