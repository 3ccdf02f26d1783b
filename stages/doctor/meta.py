"""omni-train doctor --meta: what the stages of a recipe need, without weights, data or a hub."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.text import Text

from omni.entry import EntryError
from omni.weights import WeightsError
from omni.weights.shapes import shape_of

from ..objectives import kind_of
from ..recipe.places import Places
from ..recipe.schema import Recipe, StageConfig
from ..trainable.lora import adapt
from ..trainable.patterns import describe, param_groups
from ..training.prepare import Grown, extend, load_parent
from .forecast import size
from .needs import Needs, needs_of

SUSTAINED = 400e12  # operations a second of a rank: two fifths of what an H100 does in bf16


def outline(recipe: Recipe, places: Places, stages: Sequence[StageConfig], ranks: int) -> bool:
    """Print, for each stage, what trains, and memory and operations of a rank.

    Nothing is asked of this machine.

    Returns:
        Whether all of them can be made, and their packs shared by so many ranks.
    """
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    verdict = Text("go", "bold green")
    try:
        for stage, model, groups in sketches(recipe):
            if stage not in stages:
                continue
            with _blaming("stages", stage.name):
                needs = None if stage.rollout else needs_of(recipe, stage, model, ranks)
            console.rule(
                f"{stage.name}: {kind_of(stage.objective)}, {stage.steps:,} steps", align="left"
            )
            console.print(describe(model, stage.name, groups), markup=False)
            if needs:
                _show(needs, stage, ranks, console)
            else:
                console.print("no forecast: its packs are of answers that are drawn as it trains")
    except EntryError as error:
        reason = " ".join(str(error).split())
        verdict = Text(f"no-go: {places.of(*error.keys)}: {reason}", "bold red")
    console.print(verdict)
    return verdict.plain == "go"


def sketches(recipe: Recipe) -> Iterator[tuple[StageConfig, Any, list[dict[str, Any]]]]:
    """Yield each stage with the model that it trains, on the meta device, and what trains.

    Parts of known shape need no hub, see `omni.weights.shapes`. The model is a copy: adapters are
    gone after their stage.

    Raises:
        EntryError: a part cannot be had, or a pattern matches nothing.
    """
    with _blaming("text"):
        start = replace(recipe, text=shape_of(recipe.text))
        first, grown = load_parent(start, None, sketch=True), Grown(recipe)
    for stage in recipe.stages:
        model, processor = grown.before(stage) or first
        with _blaming("stages", stage.name):
            extend(model, processor, replace(stage, attach=_known(stage.attach)))
            found = copy.deepcopy(model)
            patterns = adapt(found, stage, processor)
            groups = param_groups(found, patterns, stage.weight_decay, stage.warmup)
        grown.keep(stage, model, processor)
        yield stage, found, groups


@contextmanager
def _blaming(*keys: str) -> Iterator[None]:
    try:
        yield
    except (EntryError, WeightsError, ValueError, OSError) as error:
        below = error.keys if isinstance(error, EntryError) else ()
        raise EntryError(error, *keys, *below) from error


def _known(attach: dict[str, Any]) -> dict[str, Any]:
    """Return what a stage attaches, parts of known shape without their weights."""
    known = copy.deepcopy(attach)
    for spec in known.values():
        for key in ("encoder", "head"):
            part = spec.get(key) if isinstance(spec, dict) else None
            if isinstance(part, dict) and isinstance(part.get("weights"), str):
                part["weights"] = shape_of(part["weights"])
        projector = spec.get("projector") if isinstance(spec, dict) else None
        if isinstance(projector, dict):
            projector.pop("weights", None)  # its shape follows from both sides of it
    return known


def _show(needs: Needs, stage: StageConfig, ranks: int, console: Console) -> None:
    memory = needs.memory
    console.print(
        f"memory of each of {ranks} ranks: about {size(sum(memory))} ("
        + ", ".join(f"{name} {size(of)}" for name, of in memory._asdict().items() if of) + ")"
    )  # fmt: skip
    for name, medium in needs.media.items():
        console.print(
            f"{name}: {medium.shown} is {medium.tokens:,} tokens of {medium.cells:,} cells, "
            f"{medium.flops / 1e12:,.2f} TFLOP before the LLM"
        )
    each = needs.packs // ranks
    least, most = (each * of for of in (needs.text_flops, needs.most_flops))
    days = [stage.steps * of / SUSTAINED / 86400 for of in (least, most)]
    console.print(
        f"a step: {each:,} of {needs.packs:,} packs of up to {needs.tokens:,} tokens, "
        f"{least / 1e15:,.2f} (text alone) to {most / 1e15:,.2f} PFLOP (media alone) a rank; the "
        f"stage {days[0]:,.1f} to {days[1]:,.1f} days at {SUSTAINED / 1e12:.0f} TFLOP/s a rank"
    )
