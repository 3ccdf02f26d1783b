"""`omni-train doctor` and `omni-train plan`: what a recipe would do, before it does it."""

from typing import Annotated

import typer

from omni.serve.command import announce, refused

from ..recipe.arguments import Overrides, RecipeName


def doctor(
    recipe: RecipeName,
    overrides: Overrides = None,
    stage: Annotated[str | None, typer.Option(help="the stage to examine [default: all]")] = None,
    samples: Annotated[int, typer.Option(min=2, help="how many to draw of each source")] = 8,
    meta: Annotated[
        bool, typer.Option("--meta", help="without weights, data or a hub: what a rank needs")
    ] = False,
    ranks: Annotated[int, typer.Option(min=1, help="with --meta: that share the work")] = 1,
) -> None:
    """Examine stages on their own data before they are trained; nothing is written.

    Prints parts, lengths, what is left out and why, one sample of each source with its labels,
    memory and time; a packed row must give the loss and gradients of its documents one by one.
    The last line is "go", or "no-go" with the reasons and exit code 1. With --meta: parameters,
    what trains, memory and operations of each rank, by arithmetic.

    Example: `omni-train doctor quickstart --stage omni`
    """
    if ranks > 1 and not meta:
        raise refused(
            "--ranks goes with --meta: without it, one process of this machine is examined"
        )
    from ..recipe.read import load_recipe, read_places
    from ..recipe.schema import RecipeError

    try:
        config, places = load_recipe(recipe, overrides), read_places(recipe, overrides)
    except RecipeError as error:
        raise refused(error) from error
    announce(f"examining {recipe}")
    from transformers.utils import logging

    from .meta import outline
    from .verdict import diagnose

    logging.disable_progress_bar()
    chosen = _chosen(config, stage)
    fits = (
        outline(config, places, chosen, ranks)
        if meta
        else diagnose(config, places, chosen, samples)
    )
    if not fits:
        raise typer.Exit(1)


def plan(
    recipe: RecipeName,
    overrides: Overrides = None,
    stage: Annotated[str | None, typer.Option(help="the stage to plan [default: all]")] = None,
    ranks: Annotated[int, typer.Option(min=1, help="that share the packs of a step")] = 1,
    steps: Annotated[
        int | None, typer.Option(min=1, help="to plan [default: until all was drawn once]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one object of json")] = False,
) -> None:
    """Say what an epoch of each stage's data would be, without weights or decoding.

    Prints packs, padding, the share of each source as asked and as it comes, the balance of the
    ranks, the steps of an epoch, and what is truncated, split or left out and why.

    Example: `omni-train plan quickstart --stage sft --ranks 4`
    """
    from ..recipe.read import load_recipe
    from ..recipe.schema import RecipeError

    try:
        config = load_recipe(recipe, overrides)
    except RecipeError as error:
        raise refused(error) from error
    chosen = _chosen(config, stage)
    announce(f"planning {recipe}", aside=as_json)
    from omni.load import CheckpointError
    from omni.weights import WeightsError

    from .planned import plan_stages

    try:
        plan_stages(config, chosen, ranks, steps, as_json)
    except (CheckpointError, WeightsError, ValueError, OSError) as error:
        raise refused(error) from error


def _chosen(config, stage: str | None) -> list:
    """Return the stage of that name, or all."""
    chosen = [s for s in config.stages if stage in (None, s.name)]
    if not chosen:
        names = ", ".join(s.name for s in config.stages)
        raise refused(f"no stage {stage!r} in the recipe; stages: {names}")
    return chosen
