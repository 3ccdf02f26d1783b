"""Atomic save and resume. A folder that bears its final name is complete."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from accelerate import Accelerator
from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

from omni.files.atomic import put_in_place
from omni.load import CheckpointError

from ..engine.distribute import gathered
from ..trainable.lora import merged, save_adapters

DONE = "stage.json"


def write_atomically(
    folder: Path, fill: Callable[[Path], None], accelerator: Accelerator | None = None
) -> None:
    """Let `fill(scratch)` write a folder, flush it to disk, and rename it to `folder`.

    With an accelerator every rank calls this and fills its part; they must share the disk.
    """
    main = accelerator is None or accelerator.is_main_process
    wait = accelerator.wait_for_everyone if accelerator else lambda: None
    scratch = folder.with_name(f".{folder.name}.partial")
    try:
        if main:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
        wait()
        fill(scratch)
        wait()
        if main:
            put_in_place(scratch, folder)
    except (OSError, RuntimeError, SafetensorError, CheckpointException) as error:
        shutil.rmtree(scratch, ignore_errors=True)  # a full disk is any of them
        raise CheckpointError(
            f"{folder}: could not be written ({error}); earlier checkpoints are untouched"
        ) from error
    wait()


def save_model(
    folder: Path, model: Any, processor: Any, facts: dict[str, Any], accelerator: Accelerator
) -> None:
    """Write a whole checkpoint: weights, config, processor, and the stage's facts.

    Every rank calls it, see `gathered`.
    """
    weights = gathered(model, accelerator)

    def fill(scratch: Path) -> None:
        if accelerator.is_main_process:
            model.save_pretrained(scratch, state_dict=merged(model, weights))
            save_adapters(model, weights, scratch)
            processor.save_pretrained(scratch)
            (scratch / DONE).write_text(json.dumps(facts, indent=1))

    write_atomically(folder, fill, accelerator)


def _tensors(model: Any, optimizer: Any) -> dict[str, Any]:
    """Return what training changes, by name, sharing its memory: loading in place restores it."""
    options = StateDictOptions(ignore_frozen_params=True)
    weights, moments = get_state_dict(model, optimizer, options=options)
    return {"model": weights, "optimizer": moments["state"]}


def save_step(
    folder: Path,
    step: int,
    model: Any,
    optimizer: Any,
    state: dict[str, Any],
    accelerator: Accelerator,
    keep_last: int = 1,
    keep_every: int = 0,
) -> None:
    """Write what a stage needs to go on: what it trains, the optimizer, and `state` (json).

    Every rank calls it and writes its share; any number of ranks can read it. Older checkpoints
    are removed, but for the `keep_last` newest and those of every `keep_every`th step.
    """

    def fill(scratch: Path) -> None:
        with _alone_is_fine():
            dcp.save(_tensors(model, optimizer), checkpoint_id=scratch)
        if accelerator.is_main_process:
            (scratch / "state.json").write_text(json.dumps({"step": step, **state}))

    write_atomically(folder / f"step-{step:08d}", fill, accelerator)
    if accelerator.is_main_process:
        for old in sorted(folder.glob("step-*"))[:-keep_last]:
            if not keep_every or int(old.name.removeprefix("step-")) % keep_every:
                shutil.rmtree(old)


def load_step(folder: Path, model: Any, optimizer: Any, settings: dict) -> dict[str, Any] | None:
    """Restore the newest step checkpoint, or return None when there is none.

    Raises:
        CheckpointError: it was made with other settings (the first that differs is named), or
            it is damaged.
    """
    found = sorted(folder.glob("step-*"))
    if not found:
        return None
    state = json.loads((found[-1] / "state.json").read_text())
    check_settings(found[-1], state["settings"], settings)
    try:
        with _alone_is_fine():
            dcp.load(_tensors(model, optimizer), checkpoint_id=found[-1])
    except (OSError, ValueError, KeyError, RuntimeError, CheckpointException) as error:
        raise CheckpointError(
            f"{found[-1]}: is damaged ({error}); remove this folder, and the same command goes on "
            "from the one before it, or starts the stage anew"
        ) from error
    return state


def check_space(folder: Path, model: Any, steps_kept: int) -> None:
    """Make sure that a stage's checkpoints fit on the disk before anything is trained.

    Raises:
        CheckpointError: `folder` cannot be written, or has less room than the model, and the
            trained weights with two moments as often as they are kept at once.
    """
    sizes = [(p.nbytes, p.requires_grad) for p in model.parameters()]
    trained = sum(size for size, trains in sizes if trains)
    needed = sum(size for size, _ in sizes) + 3 * trained * (steps_kept + 1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written ({error})") from error
    if free < needed:
        raise CheckpointError(
            f"{folder}: {free / 1e9:.1f} GB are free, the checkpoints of this stage take up to "
            f"{needed / 1e9:.1f} GB; make room, choose another output, or lower keep_last"
        )


def _alone_is_fine() -> warnings.catch_warnings:
    """Keep torch from warning, at every save, that there is one process."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)


def check_settings(folder: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise CheckpointError naming the first setting that differs."""
    now = json.loads(json.dumps(now))  # as it was written
    for key in now:
        if then.get(key) != now[key]:
            raise CheckpointError(
                f"{folder}: made with {key} = {then.get(key)!r}, the recipe says {now[key]!r}. "
                f"Restore it, train this stage again with --redo {folder.name}, choose another "
                "output folder, or start anew with --fresh."
            )


def finished(folder: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Return the facts of a stage that is complete with these settings, else None."""
    if not (folder / DONE).is_file():
        return None
    facts = json.loads((folder / DONE).read_text())
    check_settings(folder, facts["settings"], settings)
    return facts
