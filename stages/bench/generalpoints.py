"""Reinforcement on a reduced game of cards: better on hands that were held out, or not."""

import time
from pathlib import Path
from typing import Any

from data_shards.bench.result import Result

from .cards import HELDOUT, TRAIN, permuted, solved, write_model, write_shards

WARM_UP, STEPS, ASKED = 400, 100, 400
MOST_PARAMETERS = 30e6
START, GAIN, CONTROL = (10.0, 40.0), 10.0, 3.0  # percent, and points
SECONDS = 480


def run(folder: Path, small: bool = False) -> Result:
    """Warm up on the solver's answers, then learn from the verifier; ask hands of neither.

    The game: four cards of 1 to 6 that are to make 12. A quarter of the hands is held out. The
    recipe is generalpoints_text with a small random Llama; a control is paid what other answers
    to the same prompt earn. A score is of greedy answers, one attempt; intervals resample hands.

    Args:
        folder: of shards, model and runs.
        small: a few steps, which learn nothing: the run is ok if all of it ran.
    """
    from eval.scoring.statistics import compare, interval, score

    warm_up, steps, asked = (4, 2, 32) if small else (WARM_UP, STEPS, ASKED)
    shards = write_shards(folder / "shards", 64 if small else 3000)
    parameters = write_model(folder / "model", *((32, 1) if small else (192, 4)))
    rows, kept = [], {}
    began = time.monotonic()
    for arm in ("verifier", "permuted"):
        run_folder = folder / "verifier"
        if arm == "permuted":
            run_folder = folder / "control"
            _begin_with(folder / "verifier" / "warm_up", run_folder)
        _train(folder, run_folder, shards, warm_up, steps, arm == "permuted")
        if arm == "verifier":
            kept["warm-up"] = solved(run_folder / "warm_up", HELDOUT, asked)
            seconds = time.monotonic() - began
        kept[arm] = solved(run_folder / "rl", HELDOUT, asked)
    gains = {arm: compare(kept[arm], kept["warm-up"]) for arm in ("verifier", "permuted")}
    for name, found in kept.items():
        low, high = interval(found)
        row = {"arm": name, "held-out solved %": round(score(found), 1),
               "95 %": f"{low:.1f} to {high:.1f}", "gain": "", "95 % of it": ""}  # fmt: skip
        if gain := gains.get(name):
            row |= {
                "gain": f"{gain.score:+.1f}",
                "95 % of it": f"{gain.low:+.1f} to {gain.high:+.1f}",
            }
        rows.append(row)
    start, gain, control = score(kept["warm-up"]), gains["verifier"], gains["permuted"]
    fine = (START[0] <= start <= START[1] and gain.score >= GAIN and gain.low > 0
            and abs(control.score) < CONTROL and seconds <= SECONDS)  # fmt: skip
    return Result((fine or small) and parameters <= MOST_PARAMETERS, {
        "parameters": parameters, "hands": len(kept["warm-up"]), "start": round(start, 1),
        "gain": round(gain.score, 1), "control": round(control.score, 1), "seconds": round(seconds),
    }, rows)  # fmt: skip


def _begin_with(stage: Path, run_folder: Path) -> None:
    """Let a run find a stage finished, so that both arms begin with the same weights."""
    import shutil

    shutil.copytree(stage, run_folder / stage.name)


def _train(
    folder: Path, run_folder: Path, shards: Path, warm_up: int, steps: int, control: bool
) -> None:
    from accelerate import Accelerator

    from ..recipe.read import load_recipe
    from ..training.chain import run_recipe

    recipe = load_recipe("generalpoints_text", [
        f"output={run_folder}", f"text={folder / 'model'}", "precision=fp32", "trackers=[]",
        f"sources.solutions=[{shards}/train-*.tar]", "save_seconds=1e9",
        "stages.warm_up.trainable={language_model: 1.0e-3}", f"stages.warm_up.steps={warm_up}",
        "stages.warm_up.data.batch_size=32",
        "stages.rl.trainable={language_model: 1.0e-4}", f"stages.rl.steps={steps}",
        "stages.rl.rollout.prompts=16", "stages.rl.rollout.batch=16",
        "stages.rl.rollout.max_new_tokens=24",
    ])  # fmt: skip
    rl: Any = recipe.stages[1]
    rl.rollout["environment"] = TRAIN
    if control:
        rl.rollout["reward"] = f"{__package__}.cards:{permuted.__name__}"
    run_recipe(recipe, Accelerator(cpu=True))
