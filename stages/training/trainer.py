"""THE loop. A stage loads its parent's checkpoint, trains, proves what stayed frozen, and saves."""

import itertools
import math
import resource
import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from omni.load import CheckpointError

from ..engine.distribute import agree, clip, distribute, engine, gradients, to_device
from ..engine.kernels import set_kernels
from ..engine.precision import PRECISIONS
from ..engine.signals import Interrupted, Signals
from ..metrics.metrics import Metrics
from ..metrics.tally import Tally
from ..objectives import kind_of, objective_class
from ..objectives.task import Task
from ..recipe.schema import Recipe, StageConfig
from ..trainable.lora import adapt
from ..trainable.patterns import describe, frozen_hashes, param_groups, set_trainable
from .asked import held_out_answers, show_answers
from .checkpoint import check_space, load_step, save_model, save_step
from .guard import Guard
from .prepare import make_feature_cache, make_loader, make_model
from .reference import make_reference, stores_reference
from .rollouts import make_rollouts
from .steps import LoaderSteps, Step, Steps


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
    folder = _resume_folder(target)
    task, steps = _make_task(recipe, stage, model, processor, folder, accelerator)
    task = distribute(task, accelerator, recipe.sharding)
    groups = param_groups(model, patterns, stage.weight_decay, stage.warmup)
    accelerator.print(describe(model, stage.name, groups))
    accelerator.print(f"{stage.name}: {_joined(task, accelerator)}")
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
    trainer = Trainer(recipe, stage, task, processor, optimizer, steps, folder, settings,
                      accelerator)  # fmt: skip
    trainer.train()
    _finish(target, model, processor, before, trainer.metrics, settings, accelerator)


def _make_task(
    recipe: Recipe,
    stage: StageConfig,
    model: Any,
    processor: Any,
    folder: Path,
    accelerator: Accelerator,
) -> tuple[Task, Steps]:
    """Join the model with the stage's objective; return with it what its steps are made of."""
    objective = objective_class(kind_of(stage.objective))
    objective.check(model)
    if stage.rollout:
        task = Task(model, stage.objective)
        return task, make_rollouts(recipe, stage, model, processor, task.objective, accelerator)
    loader = make_loader(recipe, stage, processor, folder, accelerator)
    stored = stores_reference(recipe, stage)
    if stored:
        loader.known = make_reference(
            folder.parent.parent / "reference", model, loader, objective.rendering, stage.steps,
            accelerator,
        )  # fmt: skip
    task = Task(model, stage.objective, stored=stored)
    if objective.looks:
        task.objective.prepare(
            row for index in loader.plan.sources.values() for row in index.json_parts() if row
        )
    return task, LoaderSteps(loader)


class Trainer:
    """The loop over the steps of one stage, from the last checkpoint in `folder` on.

    Args:
        recipe: how often to save and to ask, and whom to tell.
        stage: how long, and on what schedule.
        task: the model with its objective, as `distribute` returned it.
        processor: of its model.
        optimizer: its learning rates are the peaks.
        steps: what each update is made of.
        folder: of step checkpoints and what was left out.
        settings: all that the stage's result depends on; a checkpoint of others is not resumed.
        accelerator: knows the ranks.
    """

    def __init__(
        self,
        recipe: Recipe,
        stage: StageConfig,
        task: Any,
        processor: Any,
        optimizer: torch.optim.Optimizer,
        steps: Steps,
        folder: Path,
        settings: dict[str, Any],
        accelerator: Accelerator,
    ):
        self.recipe, self.stage, self.settings, self.folder = recipe, stage, settings, folder
        self.task, self.processor, self.optimizer, self.steps = task, processor, optimizer, steps
        self.accelerator = accelerator
        self.model: Any = getattr(task, "module", task).model
        self.objective: Any = getattr(task, "module", task).objective
        peaks = [group["lr"] for group in optimizer.param_groups]
        state = load_step(folder, self.model, optimizer, settings)
        self.done = state["step"] if state else 0
        if state:
            steps.load_state_dict(state["data"])
            accelerator.print(f"{stage.name}: resumed after step {self.done} of {stage.steps}")
        task.train()
        self.guard = Guard(task, steps, folder, accelerator, recipe.max_offenders,
                           recipe.step_timeout)  # fmt: skip
        self.metrics = Metrics(recipe, stage, self.model, accelerator, state, engine(task))
        self._peaks, self._saved_at = peaks, time.monotonic()

    def train(self) -> None:
        """Take all steps that are left.

        Raises:
            Interrupted: a signal arrived; what was done is saved.
        """
        with self.metrics, Signals() as signals, closing(self.steps):
            self._saved_at = time.monotonic()
            while self.done < self.stage.steps:
                with self.metrics.waiting():
                    step = self.steps.next(self.model)
                self._schedule(step.number)
                loss = self.update(step)
                self.done = step.number
                self.metrics.step(step.number, loss, self.optimizer.param_groups, step.figures)
                self._tell(step)
                self._ask_if_due()
                self._save_if_due(signals.arrived)
        self.metrics.totals.update(self.steps.finish())

    def _tell(self, step: Step) -> None:
        """Write down what a step says of itself; print what goes wrong."""
        name, after = self.stage.name, step.number
        if step.shown:
            self.metrics.write({"event": "rollout", "name": name, "after": after,
                                "shown": [*step.shown]})  # fmt: skip
        for words in step.warnings:
            self.accelerator.print(f"{name}: step {after}: {words}")
            self.metrics.write({"event": "warning", "name": name, "after": after, "text": words})

    def _schedule(self, step: int) -> None:
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * schedule(step, self.stage, group["warmup"])

    def _ask_if_due(self) -> None:
        """Show what the model answers by now; nothing that it learns from is touched."""
        every = self.recipe.probes.every
        if not every or self.done % every or self.done == self.stage.steps:
            return  # what a stage answers at its end, its probe says
        if self.accelerator.is_main_process:
            with self.metrics.aside():
                answers = self._answers()
                print(f"{self.stage.name}: answers after step {self.done}")
                show_answers(answers)
            self.metrics.write({"event": "answers", "name": self.stage.name, "after": self.done,
                                "answers": answers})  # fmt: skip

    def _answers(self) -> list[dict[str, str]]:
        cache, self.model.feature_cache = self.model.feature_cache, None  # its outputs train
        self.task.eval()
        try:
            return held_out_answers(self.recipe, self.model, self.processor, [])
        finally:
            self.task.train()
            self.model.feature_cache = cache

    def _save_if_due(self, signal: int) -> None:
        waited = time.monotonic() - self._saved_at
        due = self.done < self.stage.steps and waited > self.recipe.save_seconds
        stop, due = agree(signal, due, self.accelerator)
        if stop or due:
            self.save()
        if stop:
            self.accelerator.print(
                f"stopped after step {self.done}; the same command goes on from here"
            )
            raise Interrupted(128 + stop)

    def save(self) -> None:
        """Write a checkpoint that a later run of the same stage goes on from."""
        saved = {"settings": self.settings, "data": self.steps.state_dict(),
                 "metrics": self.metrics.state()}  # fmt: skip
        save_step(self.folder, self.done, self.model, self.optimizer, saved, self.accelerator,
                  self.recipe.keep_last, self.recipe.keep_every)  # fmt: skip
        self._saved_at = time.monotonic()

    def update(self, step: Step) -> float:
        """Take one optimizer update; return its loss, by the count of the whole global batch."""
        try:
            with self.guard.watch(step):
                loss, tally = self.backward(step)
        except (FloatingPointError, MemoryError) as error:  # once more, without the culprits
            step = self.guard.search(step, error)
            with self.guard.watch(step):
                loss, tally = self.backward(step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.metrics.count(tally)
        return loss

    def backward(self, step: Step) -> tuple[float, Tally]:
        """Leave a step's clipped gradients; return its loss and what it counted, of all ranks."""
        accelerator, micro = self.accelerator, step.micro
        # chance is a function of the step and the rank, so no state of it need be saved
        set_seed(hash((self.recipe.seed, step.number, accelerator.process_index)) % 2**32)
        device = accelerator.device
        weights = [self.objective.weights(batch.documents) for batch in micro]
        mine = torch.tensor(math.fsum(itertools.chain.from_iterable(weights)))
        count: Any = accelerator.reduce(mine.to(device, non_blocking=True), "sum")
        # gradients are averaged over ranks, so each divides by its share of the global count
        share = count.clamp(min=1) / accelerator.num_processes
        whole: Any = getattr(self.task, "module", self.task)
        counts = whole.step_counts([batch.tensors for batch in micro]).items()
        counts: Any = {n: accelerator.reduce(c.to(device), "sum") for n, c in counts}
        total, tally = torch.zeros((), device=device), self.metrics.tally()
        stay = self.model.host_inputs()
        for i, batch in enumerate(micro):
            with gradients(self.task, accelerator, last=i == len(micro) - 1):
                with accelerator.autocast():
                    part = self.task(to_device(batch.tensors, device, stay) | counts, share)
                accelerator.backward(part.total)
            total += part.total.detach()
            tally.add(batch, part)
        norm = clip(self.task.parameters(), self.stage.clip)
        loss, norm = tally.close(total, norm, count, accelerator)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise FloatingPointError(
                f"the loss is {loss}, the gradient's norm {norm} on the samples "
                f"{', '.join(step.keys())}: nothing was updated. Lower the learning rate, or look "
                "at them."
            )
        return loss, tally


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
