"""omni-train plan: what an epoch of each stage's data looks like, without weights or decoding."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console

from data_shards.outlook import show, survey_plan
from data_shards.plan.epoch import Epoch

from ..objectives import kind_of, objective_class
from ..recipe.schema import Recipe, StageConfig
from ..training.prepare import Grown, extend, load_parent, make_plan
from .examine import start_of


def plan_stages(
    recipe: Recipe, stages: Sequence[StageConfig], ranks: int, steps: int | None, as_json: bool
) -> None:
    """Print an epoch of each stage, for readers or as one object of json: stage -> its figures.

    Raises:
        CheckpointError, WeightsError, ValueError, OSError: a source, or a part of the model, cannot
            be had.
    """
    console, figures = Console(), {}
    for stage, epoch in _epochs(recipe, stages, ranks, steps):
        figures[stage.name] = epoch.figures() | {"stage_steps": stage.steps}
        if as_json:
            continue
        console.rule(f"{stage.name}: {stage.steps:,} steps", align="left")
        show(epoch, console)
        if epoch.whole:
            console.print(f"the stage: {stage.steps / epoch.whole:.2f} epochs", highlight=False)
    if as_json:
        print(json.dumps(figures))


def _epochs(
    recipe: Recipe, stages: Sequence[StageConfig], ranks: int, steps: int | None
) -> Iterator[tuple[StageConfig, Epoch]]:
    """Yield the stages in order, each with what the ones before it attach."""
    start, between = start_of(recipe, stages[0])
    first, grown = load_parent(recipe, start, sketch=True), Grown(recipe)
    for stage in [*between, *stages]:
        loaded: tuple[Any, Any] = grown.before(stage) or first
        model, processor = loaded
        extend(model, processor, stage)
        grown.keep(stage, model, processor)
        if stage in between or stage.rollout:  # what that learns from is drawn as it trains
            continue
        plan = make_plan(recipe, stage, processor, ranks)
        rendering = objective_class(kind_of(stage.objective)).rendering
        yield stage, survey_plan(plan, processor, ranks, steps, rendering)
