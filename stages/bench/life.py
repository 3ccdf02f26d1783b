"""A tiny training that benches kill, stop, and continue on other numbers of processes."""

import os
import signal
from collections.abc import Iterable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from data_shards.bench import forked
from data_shards.bench.data import write
from omni.files.jsonl import append_lines, read_lines


def write_sources(folder: Path, count: int = 40) -> None:
    """Write the shards that `recipe_of` names."""
    for seed, (name, media) in enumerate(
        (("pictures", ["image"]), ("sounds", ["audio"]), ("text", []), ("both", ["image", "audio"]))
    ):
        write(folder / name, count, seed, media=media, seconds=0.3, chars=(5, 40))


def recipe_of(folder: Path, overrides: Iterable[str] = ()) -> Any:
    """Return a recipe of one stage that trains all of a tiny model that sees and hears."""
    from ..recipe.read import load_recipe

    names = ("pictures", "sounds", "text", "both")
    sources = [f"sources.{name}=[{folder / name}/train-*.tar]" for name in names]
    mixture = "{pictures: 0.3, sounds: 0.2, text: 0.2, both: 0.3}"
    recipe = load_recipe("tiny", [
        *sources, f"output={folder / 'run'}", "feature_cache_mb=0",
        f"stages.omni.data.mixture={mixture}", "stages.omni.data.batch_size=3", *overrides,
    ])  # fmt: skip
    vision, audio, omni, _ = recipe.stages
    omni.attach = vision.attach | audio.attach
    omni.trainable = {"*": 1e-3}
    recipe.stages = [omni]
    return recipe


def start(
    folder: Path, ranks: int, overrides: Sequence[str], stop_at: int = 0
) -> list[BaseProcess]:
    """Start the ranks of a run; they end themselves after step `stop_at` (0: at its end)."""
    return forked.start(rank, (folder, overrides, stop_at), ranks, folder)


def losses(run: Path) -> list[tuple[int, float]]:
    """Return (step, loss) of every line of a run's log, in the order of writing."""
    rows = read_lines(run / "log.jsonl")
    return [(row["step"], row["loss"]) for row in rows if "step" in row]


def samples(run: Path) -> dict[int, list[str]]:
    """Return the keys of every step over all ranks, sorted; of a step run again, of the last."""
    steps: dict[int, dict[str, list[str]]] = {}
    for path in sorted(run.glob("keys-*.jsonl")):
        for row in read_lines(path):
            steps.setdefault(row["step"], {})[f"{row['ranks']}.{path.name}"] = row["keys"]
    return {step: sorted(key for keys in found.values() for key in keys)
            for step, found in sorted(steps.items())}  # fmt: skip


def rank(folder: Path, overrides: Sequence[str], stop_at: int) -> None:
    """Be one rank: `omni-train` itself, which also writes what each step was made of."""
    from accelerate import Accelerator

    from ..training import chain
    from ..training.trainer import Trainer

    recipe = recipe_of(folder, overrides)
    accelerator = Accelerator(cpu=True)
    run = Path(recipe.output)
    run.mkdir(parents=True, exist_ok=True)
    real, listed = Trainer.update, run / f"keys-{accelerator.process_index}.jsonl"

    def update(self: Any, step: Any) -> float:
        ranks = accelerator.num_processes
        append_lines(listed, [{"step": step.number, "ranks": ranks, "keys": step.keys()}])
        if step.number == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, step)

    Trainer.update = update
    chain.run_recipe(recipe, accelerator)
