"""THE loop. A stage loads its parent's checkpoint, trains, proves what stayed frozen, and saves."""

import hashlib
import itertools
import math
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from data_shards.index import Index
from data_shards.loader import Loader
from data_shards.manifest import split_digest
from data_shards.origin import manifests
from data_shards.plan import Plan
from omni import OmniForConditionalGeneration, OmniProcessor
from omni.feature_cache import FeatureCache
from omni.load import CheckpointError, load
from omni.model import load_text_tokenizer

from .checkpoint import finished, load_step, save_model, save_step
from .metrics import COUNTS, Metrics
from .objectives import Task
from .recipe import Recipe, StageConfig, plan_config, stage_settings
from .trainable import frozen_hashes, param_groups


class Interrupted(SystemExit):
    """SIGINT or SIGTERM arrived; a checkpoint was written. The exit code is 128 + signal."""


def run_recipe(recipe: Recipe, accelerator: Accelerator, only: str | None = None) -> None:
    """Run the stages in order, resuming wherever an earlier run stopped.

    Raises:
        CheckpointError: `only` names a stage whose parent is not finished, or a finished stage
            was made with other settings.
    """
    root = Path(recipe.output)
    parent: Path | None = None
    for stage in recipe.stages:
        target = root / stage.name
        settings = stage_settings(recipe, stage) | {
            "shards": _shards_identity(recipe, stage),
            "parent": _identity(parent),
        }
        done = finished(target, settings)
        if only == stage.name or (only is None and not done):
            if parent and not (parent / "stage.json").is_file():
                raise CheckpointError(
                    f"stage {stage.name!r} starts from {parent}, which is not there: run its "
                    "parent stage first (without --stage, all stages run in order)"
                )
            if not done:
                try:
                    train_stage(recipe, stage, settings, parent, target, accelerator)
                finally:
                    accelerator.free_memory()  # it holds every model and optimizer it prepared
        if done:
            accelerator.print(f"{stage.name}: finished already, {target}")
        if only == stage.name:
            return
        parent = target


def _shards_identity(recipe: Recipe, stage: StageConfig) -> dict[str, list[str]]:
    """Return, per source, hashes that change when its shards are built anew."""
    return {name: [*manifests(recipe.sources[name])] for name in stage.data.mixture}


def _identity(parent: Path | None) -> str:
    """Return what a stage's result depends on in its parent: when and as what it was made."""
    if parent is None or not (parent / "stage.json").is_file():
        return ""
    return hashlib.sha256((parent / "stage.json").read_bytes()).hexdigest()[:16]


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
    model, processor = _prepare(recipe, stage, parent, accelerator)
    groups = param_groups(model, stage.trainable, stage.weight_decay)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
    peaks = [group["lr"] for group in optimizer.param_groups]
    before = frozen_hashes(model)
    resume = _resume_folder(target)
    loader = _loader(recipe, stage, processor, resume, accelerator)
    state = load_step(resume, model, optimizer, settings)
    if state:
        loader.load_state_dict(state["data"])
        torch.set_rng_state(torch.tensor(state["rng"], dtype=torch.uint8))
        accelerator.print(f"{stage.name}: resumed after step {state['step']} of {stage.steps}")
    if recipe.feature_cache_mb:
        model.feature_cache = FeatureCache(recipe.feature_cache_mb << 20)
    task, optimizer = accelerator.prepare(Task(model, stage.objective), optimizer)
    task.train()
    metrics = Metrics(stage, Path(recipe.output), model, accelerator.is_main_process, state)
    with metrics, _Signals() as signals, closing(iter(loader)) as batches:  # type: ignore
        start = (state["step"] if state else 0) + 1
        saved_at = time.monotonic()
        for step in range(start, stage.steps + 1):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * schedule(step, stage)
            micro = _take(batches, loader.per_step, metrics)
            loss = _step(stage, task, optimizer, micro, accelerator, metrics)
            metrics.step(step, loss, optimizer.param_groups[0]["lr"])
            due = step < stage.steps and time.monotonic() - saved_at > recipe.save_seconds
            stop, due = _agree(signals.arrived, due, accelerator)
            if stop or due:
                _save_step(target, step, model, optimizer, loader, metrics, settings, accelerator)
                saved_at = time.monotonic()
            if stop:
                accelerator.print(f"stopped after step {step}; the same command goes on from here")
                raise Interrupted(128 + stop)
    for fate, count in loader.overlong().items():
        metrics.totals[f"overlong.{fate}"] = count
    _finish(target, model, processor, before, metrics, settings, accelerator)


def _agree(stop: int, due: bool, accelerator: Accelerator) -> tuple[int, bool]:
    """Let all ranks stop or save at the same step: clocks and signals differ between them."""
    if accelerator.num_processes == 1:
        return stop, due
    mine = torch.tensor([stop, int(due)], device=accelerator.device)
    everyone = accelerator.gather(mine[None])
    return int(everyone[:, 0].max()), bool(everyone[:, 1].any())  # type: ignore[index]


def _resume_folder(target: Path) -> Path:
    """Return where a stage keeps its step checkpoints and its quarantine list."""
    return target.parent / "resume" / target.name


def schedule(step: int, stage: StageConfig) -> float:
    """Return the share of the peak learning rate: linear warm-up, then a cosine."""
    warm = max(1, round(stage.warmup * stage.steps))
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
) -> torch.Tensor:
    """Take one optimizer update; return its loss per label token of the whole global batch."""
    device = accelerator.device
    counted = [[b["meta"][name] for name in COUNTS] for b in micro]
    totals: Any = accelerator.reduce(torch.tensor(counted, device=device).sum(0), "sum")
    metrics.count(totals.tolist(), [source for b in micro for source in b["meta"]["sources"]])
    # DDP averages gradients over ranks, so each rank divides by its share of the global count
    share = totals[0].clamp(min=1) / accelerator.num_processes
    loss: Any = torch.zeros((), device=device)
    for i, batch in enumerate(micro):
        tensors = {k: v.to(device, non_blocking=True) for k, v in batch.items() if k != "meta"}
        last = i == len(micro) - 1
        with nullcontext() if last else accelerator.no_sync(task):
            with accelerator.autocast():
                part = task(tensors, share)
            accelerator.backward(part)
        loss += part.detach()
    loss = accelerator.reduce(loss, "mean")
    norm = accelerator.clip_grad_norm_(task.parameters(), stage.clip)
    if not (math.isfinite(float(loss)) and math.isfinite(float(norm or 0.0))):
        keys = [key for b in micro for key in b["meta"]["keys"]]
        raise FloatingPointError(
            f"the loss is {float(loss)}, the gradient's norm {float(norm or 0.0)} on the samples "
            f"{', '.join(keys)}: nothing was updated. Lower the learning rate, or look at them."
        )
    optimizer.step()
    optimizer.zero_grad()
    return loss


def _prepare(
    recipe: Recipe, stage: StageConfig, parent: Path | None, accelerator: Accelerator
) -> tuple[OmniForConditionalGeneration, OmniProcessor]:
    """Load the parent, attach what the stage adds, and print every licence."""
    with accelerator.main_process_first():  # which fetches and converts, the others find it done
        model, processor = load_parent(recipe, parent)
        for name, spec in stage.attach.items():
            model.attach(name, spec, processor)
    model.config.parts |= _data_records(recipe, stage)
    for name, part in model.config.parts.items():
        accelerator.print(f"{name}: {part['source']}, licence {part['license']}")
    return model, processor


def load_parent(
    recipe: Recipe, parent: Path | None
) -> tuple[OmniForConditionalGeneration, OmniProcessor]:
    """Load a finished stage; without one, what the recipe starts from."""
    start = parent or Path(recipe.text)
    if parent or (start / "processor_config.json").is_file():
        return load(start)
    model = OmniForConditionalGeneration.from_text(recipe.text)
    return model, OmniProcessor(load_text_tokenizer(recipe.text))


def _data_records(recipe: Recipe, stage: StageConfig) -> dict[str, dict[str, str]]:
    """Return what the checkpoint remembers of the stage's data: source, licences, split."""
    records = {}
    for name in stage.data.mixture:
        found = manifests(recipe.sources[name]).values()
        licenses = {f"{k}: {v}" for m in found for k, v in m.get("licenses", {}).items()}
        records[f"data.{name}"] = {
            "source": ", ".join(m.get("source", "unknown") for m in found)
            or "unknown: no manifest.json",
            "license": ", ".join(sorted(licenses)) or "unknown",
            "split": ", ".join(f"{m.get('source')}:{split_digest(m)}" for m in found),
        }
    return records


def make_plan(recipe: Recipe, stage: StageConfig, processor: Any, ranks: int) -> Plan:
    """Plan the stage's data for a number of ranks."""
    sources = {name: Index.open(recipe.sources[name]) for name in stage.data.mixture}
    lengths = {name: index.lengths(processor) for name, index in sources.items()}
    return Plan(sources, plan_config(recipe, stage, ranks), lengths)


def _loader(
    recipe: Recipe, stage: StageConfig, processor: Any, folder: Path, accelerator: Accelerator
) -> Loader:
    ranks = accelerator.num_processes
    with accelerator.main_process_first():  # which scans and counts, the others find it done
        plan = make_plan(recipe, stage, processor, ranks)
    return Loader(
        plan, processor, rank=accelerator.process_index, world_size=ranks,
        quarantine=folder / "quarantine.jsonl", workers=recipe.threads,
    )  # fmt: skip


def _save_step(target, step, model, optimizer, loader, metrics, settings, accelerator) -> None:
    if accelerator.is_main_process:
        state = {"settings": settings, "data": loader.state_dict(), "metrics": metrics.state()}
        state["rng"] = torch.get_rng_state().tolist()
        save_step(_resume_folder(target), step, model, optimizer, state)
    accelerator.wait_for_everyone()


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
    if accelerator.is_main_process:
        save_model(target, model, processor, facts)
        for old in _resume_folder(target).glob("step-*"):
            shutil.rmtree(old)
    accelerator.wait_for_everyone()
    accelerator.print(f"{facts['name']}: frozen parts unchanged, saved to {target}")


class _Signals:
    """Remember SIGINT and SIGTERM until the step is done; a second one acts at once."""

    def __enter__(self) -> "_Signals":
        self.arrived = 0
        self._old = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._old[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: somebody else handles signals
                break
        return self

    def _note(self, number: int, _frame: Any) -> None:
        self.arrived = number
        signal.signal(number, self._old[number])

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
