"""THE loop. A stage loads its parent's checkpoint, trains, proves what stayed frozen, and saves."""

import itertools
import math
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed

from omni.load import CheckpointError

from ..engine.distribute import agree, clip, distribute, engine, gradients, to_device
from ..engine.kernels import set_kernels
from ..engine.precision import PRECISIONS
from ..engine.signals import Interrupted, Signals
from ..metrics.metrics import Metrics
from ..objectives.task import Task
from ..recipe.schema import Recipe, StageConfig
from ..trainable.lora import adapt
from ..trainable.patterns import describe, frozen_hashes, param_groups, set_trainable
from .checkpoint import check_space, load_step, save_model, save_step
from .guard import Guard
from .prepare import make_feature_cache, make_loader, make_model


def train_stage(
    recipe: Recipe,
    stage: StageConfig,
    settings: dict[str, Any],
    parent: Path | None,
    target: Path,
    accelerator: Accelerator,
) -> None:
    """Train one stage from its parent's checkpoint (or the bare LLM) and save it to `target`."""
    set_seed(recipe.seed)
    model, processor = make_model(recipe, stage, parent, accelerator)
    model.feature_cache = make_feature_cache(recipe)
    patterns = adapt(model, stage, processor)
    set_trainable(model, patterns)
    if accelerator.is_main_process:
        check_space(target.parent, model, recipe.keep_last)
    before = frozen_hashes(model)
    set_kernels(model, recipe, accelerator)
    task = distribute(Task(model, stage.objective), accelerator, recipe.sharding)
    groups = param_groups(model, patterns, stage.weight_decay, stage.warmup)
    accelerator.print(describe(model, stage.name, groups))
    accelerator.print(f"{stage.name}: {_joined(task, accelerator)}")
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
    peaks = [group["lr"] for group in optimizer.param_groups]
    folder = _resume_folder(target)
    loader = make_loader(recipe, stage, processor, folder, accelerator)
    state = load_step(folder, model, optimizer, settings)
    if state:
        loader.load_state_dict(state["data"])
        accelerator.print(f"{stage.name}: resumed after step {state['step']} of {stage.steps}")
    task.train()
    guard = Guard(task, loader, folder, accelerator, recipe.max_offenders, recipe.step_timeout)
    metrics = Metrics(recipe, stage, model, accelerator, state, engine(task))
    with metrics, Signals() as signals, closing(iter(loader)) as batches:  # type: ignore
        saved_at = time.monotonic()
        for step in range((state["step"] if state else 0) + 1, stage.steps + 1):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * schedule(step, stage, group["warmup"])
            # chance is a function of the step and the rank, so no state of it need be saved
            seed = hash((recipe.seed, step, accelerator.process_index)) % 2**32
            micro = _take(batches, loader.per_step, metrics)
            loss = _step(stage, task, optimizer, micro, accelerator, metrics, guard, seed)
            metrics.step(step, loss, optimizer.param_groups)
            due = step < stage.steps and time.monotonic() - saved_at > recipe.save_seconds
            stop, due = agree(signals.arrived, due, accelerator)
            if stop or due:
                saved = {"settings": settings, "data": loader.state_dict(),
                         "metrics": metrics.state()}  # fmt: skip
                save_step(folder, step, model, optimizer, saved, accelerator,
                          recipe.keep_last, recipe.keep_every)  # fmt: skip
                saved_at = time.monotonic()
            if stop:
                accelerator.print(f"stopped after step {step}; the same command goes on from here")
                raise Interrupted(128 + stop)
    loader.check_modalities(gather_object)
    for fate, count in loader.overlong().items():
        metrics.totals[f"overlong.{fate}"] = count
    _finish(target, model, processor, before, metrics, settings, accelerator)


def _joined(task: Any, accelerator: Accelerator) -> str:
    """Say how many processes run, as what, and where."""
    many = accelerator.num_processes
    where = f"{accelerator.device.type}, {PRECISIONS[accelerator.mixed_precision]}"
    return f"{many} {'rank' if many == 1 else 'ranks'} ({engine(task)}) on {where}"


def _resume_folder(target: Path) -> Path:
    """Return where a stage keeps its step checkpoints and its quarantine list."""
    return target.parent / "resume" / target.name


def schedule(step: int, stage: StageConfig, warmup: float) -> float:
    """Return the share of the peak learning rate: linear warm-up, then a cosine."""
    warm = max(1, round(warmup * stage.steps))
    if step <= warm:
        return step / warm
    progress = (step - warm) / max(1, stage.steps - warm)
    return stage.final_lr + (1 - stage.final_lr) * 0.5 * (1 + math.cos(math.pi * progress))


def _take(batches: Iterator[Any], count: int, metrics: Metrics) -> list[dict[str, Any]]:
    """Return a step's micro-batches; the loader itself knows the state after them."""
    with metrics.waiting():
        return [batch for batch, _ in itertools.islice(batches, count)]


def _step(
    stage: StageConfig,
    task: Any,
    optimizer: Any,
    micro: list[dict[str, Any]],
    accelerator: Accelerator,
    metrics: Metrics,
    guard: Guard,
    seed: int,
) -> float:
    """Take one optimizer update; return its loss per label token of the whole global batch."""
    try:
        with guard.watch(micro):
            loss, tally = _backward(stage, task, micro, accelerator, metrics, seed)
    except (FloatingPointError, MemoryError) as error:  # once more, without who is to blame
        micro = guard.search(micro, error)
        with guard.watch(micro):
            loss, tally = _backward(stage, task, micro, accelerator, metrics, seed)
    optimizer.step()
    optimizer.zero_grad()
    metrics.count(tally)
    return loss


def _backward(
    stage: StageConfig,
    task: Any,
    micro: list[dict[str, Any]],
    accelerator: Accelerator,
    metrics: Metrics,
    seed: int,
) -> tuple[float, Any]:
    """Leave a step's clipped gradients; return its loss and what it counted, over all ranks."""
    set_seed(seed)
    device = accelerator.device
    whole: Any = getattr(task, "module", task)
    mine = torch.tensor(sum(whole.objective.count(b["meta"]) for b in micro))
    count: Any = accelerator.reduce(mine.to(device, non_blocking=True), "sum")
    # gradients are averaged over ranks, so each divides by its share of the global count
    share = count.clamp(min=1) / accelerator.num_processes
    counts = whole.step_counts(micro).items()
    counts: Any = {n: accelerator.reduce(c.to(device), "sum") for n, c in counts}
    total, tally = torch.zeros((), device=device), metrics.tally()
    for i, batch in enumerate(micro):
        with gradients(task, accelerator, last=i == len(micro) - 1):
            with accelerator.autocast():
                part, losses = task(to_device(batch, device) | counts, share)
            accelerator.backward(part)
        total += part.detach()
        tally.add(batch, losses)
    loss, norm = tally.close(total, clip(task.parameters(), stage.clip), accelerator)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        keys = [key for b in micro for key in b["meta"]["keys"]]
        raise FloatingPointError(
            f"the loss is {loss}, the gradient's norm {norm} on the samples {', '.join(keys)}: "
            "nothing was updated. Lower the learning rate, or look at them."
        )
    return loss, tally


def _finish(target, model, processor, before, metrics, settings, accelerator) -> None:
    """Prove that frozen tensors did not move, then write the stage's checkpoint."""
    after = frozen_hashes(model)
    moved = sorted(part for part in before if before[part] != after.get(part))
    facts = metrics.facts() | {
        "frozen_ok": not moved,
        "frozen": before,
        "settings": settings,
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    metrics.write({"event": "stage_end", **{k: v for k, v in facts.items() if k != "settings"}})
    if moved:
        raise CheckpointError(
            f"stage {facts['name']!r}: frozen tensors changed in {', '.join(moved)}; the stage is "
            "not saved. Something outside the optimizer writes to them (batch norm statistics?)."
        )
    save_model(target, model, processor, facts, accelerator)
    if accelerator.is_main_process:
        for old in _resume_folder(target).glob("step-*"):
            shutil.rmtree(old)
    accelerator.print(f"{facts['name']}: frozen parts unchanged, saved to {target}")
