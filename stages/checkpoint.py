"""Atomic save and resume. A folder that bears its final name is complete."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from omni.load import CheckpointError

from .trainable import moving_state

DONE = "stage.json"


def write_atomically(folder: Path, fill: Any) -> None:
    """Let `fill(scratch)` write a folder, flush it to disk, and rename it to `folder`."""
    scratch = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        fill(scratch)
        for path in scratch.rglob("*"):
            _flush(path)
        _flush(scratch)
    except (OSError, RuntimeError, SafetensorError) as error:  # a full disk is any of them
        shutil.rmtree(scratch, ignore_errors=True)
        raise CheckpointError(
            f"{folder}: could not be written ({error}); earlier checkpoints are untouched"
        ) from error
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(scratch, folder)
    _flush(folder.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_model(folder: Path, model: Any, processor: Any, facts: dict[str, Any]) -> None:
    """Write a whole checkpoint: weights, config, processor, and the stage's facts."""

    def fill(scratch: Path) -> None:
        model.save_pretrained(scratch)
        processor.save_pretrained(scratch)
        (scratch / DONE).write_text(json.dumps(facts, indent=1))

    write_atomically(folder, fill)


def save_step(folder: Path, step: int, model: Any, optimizer: Any, state: dict[str, Any]) -> None:
    """Write what a stage needs to go on: trained weights, optimizer and `state` (json)."""
    # tied weights have two names and one memory; one name restores both
    trained = dict({t.data_ptr(): (n, t) for n, t in moving_state(model).items()}.values())

    def fill(scratch: Path) -> None:
        save_file(
            {n: t.contiguous().cpu() for n, t in trained.items()}, scratch / "trained.safetensors"
        )
        torch.save(optimizer.state_dict(), scratch / "optimizer.pt")
        (scratch / "state.json").write_text(json.dumps({"step": step, **state}))

    write_atomically(folder / f"step-{step:08d}", fill)
    for old in sorted(folder.glob("step-*"))[:-1]:
        shutil.rmtree(old)


def load_step(folder: Path, model: Any, optimizer: Any, settings: dict) -> dict[str, Any] | None:
    """Restore the newest step checkpoint, or return None when there is none.

    Raises:
        CheckpointError: it was made with other settings; the first that differs is named.
    """
    found = sorted(folder.glob("step-*"))
    if not found:
        return None
    state = json.loads((found[-1] / "state.json").read_text())
    check_settings(found[-1], state["settings"], settings)
    trained = load_file(found[-1] / "trained.safetensors")
    _, unexpected = model.load_state_dict(trained, strict=False)
    if unexpected:
        raise CheckpointError(f"{found[-1]}: holds {unexpected[0]}, which the model lacks")
    optimizer.load_state_dict(torch.load(found[-1] / "optimizer.pt", weights_only=True))
    return state


def check_settings(folder: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise CheckpointError naming the first setting that differs."""
    now = json.loads(json.dumps(now))  # as it was written
    for key in now:
        if then.get(key) != now[key]:
            raise CheckpointError(
                f"{folder}: made with {key} = {then.get(key)!r}, the recipe says {now[key]!r}. "
                "Restore it, choose another output folder, or start anew with --fresh."
            )


def finished(folder: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Return the facts of a stage that is complete with these settings, else None."""
    if not (folder / DONE).is_file():
        return None
    facts = json.loads((folder / DONE).read_text())
    check_settings(folder, facts["settings"], settings)
    return facts
