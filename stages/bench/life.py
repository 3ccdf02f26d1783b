"""A tiny training that benches kill, stop, and continue on other numbers of processes.

`python -m stages.bench.life FOLDER [key=value ...]` is one rank of it: `omni-train` itself, which
also writes what each step was made of, and may be told to stop itself.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_shards.bench.data import write
from stages.history import json_lines

MINUTES = 4  # a rank that takes longer hangs


def write_sources(folder: Path, count: int = 40) -> None:
    """Write the shards that `recipe_of` names."""
    for seed, (name, media) in enumerate(
        (("pictures", ["image"]), ("sounds", ["audio"]), ("text", []), ("both", ["image", "audio"]))
    ):
        write(folder / name, count, seed, media=media, seconds=0.3, chars=(5, 40))


def recipe_of(folder: Path, overrides: Iterable[str] = ()) -> Any:
    """Return a recipe of one stage that trains all of a tiny model with an eye and an ear."""
    from stages.recipe import load_recipe

    names = ("pictures", "sounds", "text", "both")
    sources = [f"sources.{name}=[{folder / name}/train-*.tar]" for name in names]
    mixture = "{pictures: 0.3, sounds: 0.2, text: 0.2, both: 0.3}"
    recipe = load_recipe("tiny", [
        *sources, f"output={folder / 'run'}", "feature_cache_mb=0",
        f"stages.omni.data.mixture={mixture}", "stages.omni.data.batch_size=3", *overrides,
    ])  # fmt: skip
    eye, ear, omni, _ = recipe.stages
    omni.attach = eye.attach | ear.attach
    omni.trainable = {"*": 1e-3}
    recipe.stages = [omni]
    return recipe


def environments(ranks: int) -> list[dict[str, str]]:
    """Return what `torchrun` would tell each of so many ranks on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    meet = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    places = [{"RANK": str(rank), "LOCAL_RANK": str(rank), **meet} for rank in range(ranks)]
    return [base | place for place in places] if ranks > 1 else [base]


def start(
    folder: Path, ranks: int, overrides: Iterable[str], stop_at: int = 0
) -> list[subprocess.Popen]:
    """Start the ranks of a run; they end themselves after step `stop_at` (0: at its end)."""
    command = [sys.executable, "-m", "stages.bench.life", str(folder), *overrides]
    with (folder / "stderr").open("a") as told:
        return [
            subprocess.Popen(command, env=place | {"STOP_AT": str(stop_at)}, stderr=told,
                             stdout=subprocess.DEVNULL)
            for place in environments(ranks)
        ]  # fmt: skip


def wait(processes: list[subprocess.Popen], folder: Path, expected: int = 0) -> None:
    """Wait for ranks to end as expected.

    Raises:
        RuntimeError: one ended otherwise (all are killed then), or none did in `MINUTES`.
    """
    end = time.monotonic() + 60 * MINUTES
    try:
        while any(process.poll() is None for process in processes):
            bad = [p.returncode for p in processes if p.poll() not in (None, expected)]
            if bad or time.monotonic() > end:
                why = f"ended with {bad[0]}" if bad else f"still ran after {MINUTES} minutes"
                raise RuntimeError(f"a rank {why}: {_tail(folder)}")
            time.sleep(0.05)
    finally:
        for process in processes:
            process.kill()
    if codes := {process.returncode for process in processes} - {expected}:
        raise RuntimeError(f"a rank ended with {codes}: {_tail(folder)}")


def _tail(folder: Path) -> str:
    lines = (folder / "stderr").read_text(encoding="utf-8", errors="replace").splitlines()
    return " | ".join(lines[-3:])


def losses(run: Path) -> list[tuple[int, float]]:
    """Return (step, loss) of every line of a run's log, in the order of writing."""
    rows = json_lines(run / "log.jsonl")
    return [(row["step"], row["loss"]) for row in rows if "step" in row]


def samples(run: Path) -> dict[int, list[str]]:
    """Return the keys of every step over all ranks, sorted; of a step run again, of the last."""
    steps: dict[int, dict[str, list[str]]] = {}
    for path in sorted(run.glob("keys-*.jsonl")):
        for row in json_lines(path):
            steps.setdefault(row["step"], {})[f"{row['ranks']}.{path.name}"] = row["keys"]
    return {step: sorted(key for keys in found.values() for key in keys)
            for step, found in sorted(steps.items())}  # fmt: skip


def main() -> None:
    """Be one rank."""
    import signal

    from accelerate import Accelerator

    from stages import chain, trainer

    folder, overrides = Path(sys.argv[1]), sys.argv[2:]
    recipe = recipe_of(folder, overrides)
    accelerator = Accelerator(cpu=True)
    run, stop_at = Path(recipe.output), int(os.environ["STOP_AT"])
    run.mkdir(parents=True, exist_ok=True)
    real, told = trainer._step, run / f"keys-{accelerator.process_index}.jsonl"

    def step(stage: Any, task: Any, optimizer: Any, micro: Any, *rest: Any) -> float:
        number = micro[0]["meta"]["step"] + 1
        row = {"step": number, "ranks": accelerator.num_processes,
               "keys": [key for batch in micro for key in batch["meta"]["keys"]]}  # fmt: skip
        with told.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if number == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(stage, task, optimizer, micro, *rest)

    trainer._step = step
    chain.run_recipe(recipe, accelerator)


if __name__ == "__main__":
    main()
