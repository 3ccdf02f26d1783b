"""The stages of a recipe in order, each from its parent's checkpoint; what is finished is kept."""

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from data_shards.remote.origin import manifests
from omni.load import CheckpointError

from ..engine.compiler import check_compile
from ..engine.distribute import check_sharding
from ..engine.kernels import check_attention
from ..engine.precision import check_precision
from ..metrics.trackers import check_trackers
from ..recipe.places import Places
from ..recipe.sampled import Sampled, source_of
from ..recipe.schema import (
    Recipe,
    RecipeError,
    StageConfig,
    ancestors,
    checkpoint_before,
    stage_settings,
)
from ..sampling.derive import sample_sources
from .checkpoint import DONE, finished
from .preflight import find_mistakes
from .probes import probe_stage
from .trainer import train_stage


def run_recipe(recipe: Recipe, accelerator: Accelerator, only: str | None = None) -> None:
    """Run the stages in order, resuming wherever an earlier run stopped.

    Raises:
        CheckpointError: `only` names a stage whose parent is not finished, or a finished stage
            was made with other settings.
    """
    for stage in recipe.stages:
        parent, target = checkpoint_before(recipe, stage), Path(recipe.output) / stage.name
        settings = _settings(recipe, stage, parent)
        done = finished(target, settings)
        if only == stage.name or (only is None and not done):
            if parent and not (parent / "stage.json").is_file():
                raise CheckpointError(
                    f"stage {stage.name!r} starts from {parent}, which is not there: run its "
                    "parent stage first (without --stage, all stages run in order)"
                )
            if not done:
                try:
                    sample_sources(recipe, stage, accelerator)
                    train_stage(recipe, stage, settings, parent, target, accelerator)
                finally:
                    accelerator.free_memory()  # it holds every model and optimizer it prepared
        if done:
            accelerator.print(f"{stage.name}: finished already, {target}")
        if only in (None, stage.name):
            probe_stage(recipe, stage, target, accelerator)
        if only == stage.name:
            return


def check_machine(recipe: Recipe, accelerator: Accelerator) -> None:
    """Refuse what cannot run here, before anything is loaded.

    Raises:
        ValueError: an attention kernel, a precision or a sharding that cannot train here, or no
            compiler where one is asked for.
        RecipeError: a tracker that cannot be used.
    """
    device = accelerator.device
    check_attention(recipe.attention, device)
    check_precision(accelerator.mixed_precision, device)
    check_sharding(recipe.sharding, device)
    check_trackers(recipe.trackers)
    if recipe.compile:
        check_compile(device)


def remaining(
    recipe: Recipe, only: str | None = None, again: Collection[str] = ()
) -> list[StageConfig]:
    """Return the stages that are to be trained, in order.

    What builds on a stage that is not finished will have another parent, and is trained too.

    Args:
        recipe: all of them.
        only: the one that is asked for.
        again: those whose results are put aside first.

    Raises:
        CheckpointError: a finished stage was made with other settings; names stage and setting.
    """
    found = list[StageConfig]()
    for stage in recipe.stages:
        if only not in (None, stage.name):
            continue
        parent, target = checkpoint_before(recipe, stage), Path(recipe.output) / stage.name
        kept = stage.name not in again and not any(
            map(found.__contains__, ancestors(recipe, stage))
        )
        done = kept and (target / DONE).is_file()
        if not (done and finished(target, _settings(recipe, stage, parent))):
            found.append(stage)
    return found


def building_on(recipe: Recipe, name: str) -> list[str]:
    """Return the names of a stage, and of all that start from it or learn from its answers."""
    found = [name]
    for stage in recipe.stages:
        sources = (source_of(recipe.sources[one]) for one in stage.data.mixture)
        miners = [one for source in sources if isinstance(source, Sampled) for one in source.stages]
        parents = [one.name for one in ancestors(recipe, stage)[-1:]]
        if stage.name not in found and set(found) & {*parents, *miners}:
            found.append(stage.name)
    return found


def refuse_mistakes(
    recipe: Recipe, places: Places, ranks: int, only: str | None, again: Collection[str]
) -> None:
    """Refuse mistakes of any stage that is to be trained, before the first one is.

    Args:
        recipe: what is asked for; `only` and `again` as in `remaining`.
        places: where it says what.
        ranks: processes that share the work.
        only: see there.
        again: see there.

    Raises:
        RecipeError: names every mistake with file, line and stage.
        CheckpointError: see `remaining`.
    """
    stages = remaining(recipe, only, again)
    parent = checkpoint_before(recipe, stages[0]) if only and stages else None
    if parent and not (parent / DONE).is_file():
        return  # which `run_recipe` says
    if found := find_mistakes(recipe, places, stages, ranks):
        raise RecipeError("\n".join(map(str, found)))


def _settings(recipe: Recipe, stage: StageConfig, parent: Path | None) -> dict[str, Any]:
    """Return all that a stage's result depends on."""
    return stage_settings(recipe, stage) | {
        "shards": _shards_identity(recipe, stage),
        "parent": _identity(parent),
    }


def _shards_identity(recipe: Recipe, stage: StageConfig) -> dict[str, list[str]]:
    """Return, per source, hashes that change when its shards are built anew."""
    return {name: _source_identity(recipe, name) for name in stage.data.mixture}


def _source_identity(recipe: Recipe, name: str) -> list[str]:
    source = source_of(recipe.sources[name])
    if not isinstance(source, Sampled):
        return [*manifests(source)]
    # of what its answers follow from: they may not be sampled yet
    miners = [_identity(Path(recipe.output) / name) for name in source.stages]
    return [*miners, *manifests(source.prompts)]


def _identity(parent: Path | None) -> str:
    """Return what a stage's result depends on in its parent: when and as what it was made."""
    if parent is None or not (parent / "stage.json").is_file():
        return ""
    return hashlib.sha256((parent / "stage.json").read_bytes()).hexdigest()[:16]
