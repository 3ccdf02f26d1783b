"""The resident memory of a training explained by part, and what the doctor forecasts of it.

The stages of the quickstart run for a few steps, with their own parts and sizes of batches, on
pictures and sounds that are made here. The feature cache, which fills up only over the whole run,
is counted as full. Kernels are those of this CPU: what they keep differs with its instructions.
"""

import gc
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import Accelerator

from data_shards.bench import forked
from data_shards.bench.data import write
from data_shards.bench.result import Result

LIMIT = 6e9  # bytes that the quickstart may take
STEPS = 3
SEEN: dict[str, Any] = {"size": (256, 256)}
HEARD: dict[str, Any] = {"seconds": 1.0}
SOURCES = {  # of the quickstart -> media
    "captions": ["image"], "images": ["image"], "easyvqa": ["image"], "vqa": ["image"],
    "words": ["audio"], "spoken": ["image", "audio"], "text": [],
}  # fmt: skip
PARTS = ("libraries", "weights", "reference", "gradients", "moments", "activations", "cache",
         "data")  # fmt: skip


def run(folder: Path, small: bool = False) -> Result:
    """Train each stage for some steps in one process, as a run does, and measure it.

    Args:
        folder: for shards and checkpoints.
        small: the stages of a tiny model: figures of the libraries alone.

    Returns:
        A row for each stage: its peak, the parts of it, what no part explains, and the forecast.
    """
    names = ("captions", "images", "words", "spoken", "text") if small else SOURCES
    for seed, name in enumerate(names):
        write(folder / name, 120, seed, media=SOURCES[name], chars=(20, 60), **SEEN, **HEARD)
    [process] = forked.start(_measure, (folder, [*names], small), 1, folder)
    process.join()
    if process.exitcode:
        raise RuntimeError((folder / "stderr").read_text()[-2000:])
    rows = json.loads((folder / "stages.json").read_text())
    peak = max(row["peak"] for row in rows)
    off = max(abs(row["forecast"] / row["peak"] - 1) for row in rows)
    known = min(1 - row["other"] / row["peak"] for row in rows)
    figures = {
        "cpu": torch.backends.cpu.get_cpu_capability(), "peak_gb": round(peak / 1e9, 2),
        "explained": round(known, 2), "forecast_off": round(off, 2),
    }  # fmt: skip
    shown = [{"stage": row.pop("stage")} | {k: round(v / 1e9, 3) for k, v in row.items()}
             for row in rows]  # fmt: skip
    return Result(peak <= LIMIT, figures, shown)


def _measure(folder: Path, names: list[str], small: bool) -> None:
    """Be the process that trains; write what each stage held, in bytes."""
    from ..recipe.read import load_recipe
    from ..training import chain
    from ..training.trainer import Trainer

    sources = [f"sources.{name}=[{folder / name}/train-*.tar]" for name in names]
    recipe = load_recipe("tiny" if small else "quickstart", [
        *sources, f"output={folder / 'run'}", "trackers=[]",
    ])  # fmt: skip
    for stage in recipe.stages:
        stage.steps = STEPS
    accelerator = Accelerator(cpu=True)
    libraries = psutil.Process().memory_info().rss
    held: dict[str, int] = {}
    plain = Trainer.train

    def train(self: Any) -> None:
        held.update(_watched(self, partial(plain, self)))

    Trainer.train = train
    rows = []
    for stage in recipe.stages:
        gc.collect()
        with _peak() as peak:
            chain.run_recipe(recipe, accelerator, stage.name)
        row = {"peak": peak["bytes"] + held.pop("room"), "libraries": libraries, **held}
        row["forecast"] += libraries
        row["other"] = row["peak"] - sum(row[name] for name in PARTS)
        rows.append({"stage": stage.name, **row})
    (folder / "stages.json").write_text(json.dumps(rows))


def _watched(trainer: Any, train: Any) -> dict[str, int]:
    """Train a stage; return what it held at most, by part, and what was forecast, in bytes.

    `room` is what the feature cache could still take.
    """
    from ..doctor.forecast import Saved, memory_of

    model, cache = trainer.model, trainer.model.feature_cache
    most: dict[str, int] = dict.fromkeys(("gradients", "activations", "data"), 0)
    plain = trainer.backward

    def backward(step: Any) -> Any:
        with Saved(model) as saved:
            found = plain(step)
        held = {
            "gradients": _bytes(p.grad for p in model.parameters() if p.grad is not None),
            "activations": sum(saved.storages.values()),
            "data": _bytes(t for batch in step.micro for t in batch.tensors.values()),
        }
        most.update({name: max(most[name], value) for name, value in held.items()})
        return found

    trainer.backward = backward
    limit = cache.max_bytes if cache else 0
    forecast = memory_of(model, trainer.task.extra, limit, torch.device("cpu"))
    train()
    moments = _bytes(t for of in trainer.optimizer.state.values() for t in of.values())
    return {
        "weights": forecast.weights, "reference": forecast.reference, **most,
        "moments": moments, "cache": limit,
        "forecast": forecast._replace(activations=most["activations"]).needed,
        "room": limit - cache.held if cache else 0,
    }  # fmt: skip


@contextmanager
def _peak() -> Iterator[dict[str, int]]:
    """Note the highest resident memory of this process meanwhile, as Linux keeps it."""
    found = {"bytes": 0}
    with suppress(OSError):  # some containers cannot forget: then it is that of all stages so far
        Path("/proc/self/clear_refs").write_text("5")
    yield found
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines()
              if line.startswith("VmHWM")]  # fmt: skip
    found["bytes"] = int(line.split()[1]) << 10


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))
