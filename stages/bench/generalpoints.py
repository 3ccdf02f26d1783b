"""Reinforcement on a reduced game of cards: better on hands that were held out, or not."""

from functools import partial
from pathlib import Path

from data_shards.bench.result import Result

from .cards import HELDOUT, SHIFTS, TRAIN, WORLD
from .reinforced import (
    ROW,
    Bench,
    add_shifts,
    arms,
    figures_of,
    holds,
    prompts_of,
    rows_of,
    solved,
    write_model,
    write_solutions,
)

WARM_UP, STEPS, ASKED = 120, 40, 400
NEW = 24  # tokens of an answer


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
    shards = write_solutions(folder / "shards", WORLD, 64 if small else 3000)
    parameters = write_model(folder / "model", prompts_of(TRAIN), *((32, 1) if small else (192, 4)))
    bench = Bench("generalpoints_text", folder, shards, TRAIN, f"{__package__}.cards:permuted", [
        "stages.warm_up.trainable={language_model: 1.0e-3}", f"stages.warm_up.steps={warm_up}",
        "stages.warm_up.data.batch_size=32",
        "stages.rl.trainable={language_model: 1.0e-4}", f"stages.rl.steps={steps}",
        "stages.rl.rollout.prompts=16", "stages.rl.rollout.batch=16",
        f"stages.rl.rollout.max_tokens={ROW}",
        f"stages.rl.rollout.max_new_tokens={NEW}",
    ])  # fmt: skip
    measure = partial(solved, count=asked, new_tokens=NEW)
    measured = arms(bench, partial(measure, world=HELDOUT), sft=True)
    rows = rows_of(measured.found, "held-out solved %")
    add_shifts(rows, measured, SHIFTS, measure)
    figures = figures_of(measured.found, parameters=parameters, seconds=round(measured.seconds))
    return Result(small or holds(figures), figures, rows)
