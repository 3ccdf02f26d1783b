"""Values of a recipe that no type rules out."""

import math
import re
from operator import attrgetter
from typing import NoReturn

from omni.entry import EntryError
from omni.nearest import nearest
from omni.processing.messages import SHOWING, MessageError, check_video

from ..objectives import ON_ROLLOUTS, check_objective, kind_of
from .places import Places
from .rollout import rollout_of
from .rule import Lora, Rule, numbers
from .sampled import FOLDER as SAMPLED
from .sampled import Sampled, source_of
from .schema import Recipe, RecipeError, StageConfig, plan_config

SHARDING = ("none", "full")
CONTEXT = (
    "is none or full; a sequence cannot be split over ranks, for a pack holds several documents, "
    "and PyTorch's context_parallel attends over one: use checkpointing and a lower max_tokens"
)
REFERENCE = ("stored", "model")
PRECISION = ("auto", "fp32", "bf16")
ATTENTION = ("auto", "sdpa", "eager", "flash_attention_2", "flex_attention")
# of a run, beside those of its stages
FOLDERS = ("eval", "probes", "reference", "resume", SAMPLED, "tensorboard")


def check_values(recipe: Recipe, places: Places) -> None:
    """Refuse values that cannot be, and names that lead nowhere.

    Raises:
        RecipeError: names file, line and stage.
    """
    names = [stage.name for stage in recipe.stages]
    if not names or len(set(names)) < len(names):
        where = places.of("stages")
        raise RecipeError(f"{where}: stages need distinct names, at least one; found {names}")
    for name, patterns in recipe.sources.items():
        if not patterns:
            where = places.of("sources", name)
            raise RecipeError(f"{where}: source {name!r} names no shards")
        _check_source(recipe, name, places)
    for stage in recipe.stages:
        _check_stage(recipe, stage, places)
    try:
        check_video(recipe.video, SHOWING)
    except MessageError as error:
        raise RecipeError(f"{places.of('video')}: {error}") from None
    for key, good, rule in (
        ("sharding", recipe.sharding in SHARDING,
         CONTEXT if recipe.sharding == "context" else "is none or full"),
        ("attention", recipe.attention in ATTENTION, f"is {', '.join(ATTENTION)}"),
        ("reference", recipe.reference in REFERENCE, "is stored or model"),
        ("precision", recipe.precision in PRECISION, "is auto, fp32 or bf16"),
        ("keep_last", recipe.keep_last >= 1, "is at least 1"),
        ("keep_every", recipe.keep_every >= 0, "is at least 0"),
        ("max_offenders", recipe.max_offenders >= 0, "is at least 0"),
        ("step_timeout", recipe.step_timeout >= 0, "is at least 0"),
        ("save_seconds", recipe.save_seconds >= 0, "is at least 0"),
        ("threads", recipe.threads >= 0, "is at least 0"),
        ("feature_cache_mb", recipe.feature_cache_mb >= 0, "is at least 0"),
        ("probes.samples", recipe.probes.samples >= 0, "is at least 0"),
        ("probes.answers", recipe.probes.answers >= 0, "is at least 0"),
        ("probes.limit", recipe.probes.limit >= 1, "is at least 1"),
        ("probes.every", recipe.probes.every >= 0, "is at least 0"),
        ("probes.every", recipe.sharding == "none" or not recipe.probes.every,
         "asks one rank alone, which a model sharded over ranks cannot answer: it is 0 there"),
    ):  # fmt: skip
        if not good:
            value = attrgetter(key)(recipe)
            raise RecipeError(f"{places.of(*key.split('.'))}: {key} {rule}, not {value!r}")
    if recipe.feature_cache != "memory" and recipe.feature_cache_mb < 1:
        raise RecipeError(
            f"{places.of('feature_cache')}: feature_cache names a folder; say with "
            "feature_cache_mb how large it may grow"
        )


def _check_source(recipe: Recipe, name: str, places: Places) -> None:
    """Refuse a source that is none, or is sampled from a stage that is not trained by then."""

    def fail(reason: object, *keys: str) -> NoReturn:
        where = places.of("sources", name, *keys)
        raise RecipeError(f"{where}: source {name!r}: {reason}")

    try:
        source = source_of(recipe.sources[name])
    except EntryError as error:
        fail(error, *error.keys)
    if not isinstance(source, Sampled):
        return
    if not re.fullmatch(r"\w[\w-]*", name):
        fail("what is sampled is a folder of the run, so its name is of letters, digits, - and _")
    names = [stage.name for stage in recipe.stages]
    for miner in source.stages:
        if miner not in names:
            hint = nearest(miner, names)
            fail(f"there is no stage {miner!r} to sample from; {hint}", "sample", "from")
    last = max(source.stages, key=names.index)
    for stage in recipe.stages[: names.index(last) + 1]:
        if name in stage.data.mixture:
            fail(f"stage {stage.name!r} is trained on what {last!r} answers, which comes "
                 "no earlier: a source is sampled from a stage before those that use it",
                 "sample", "from")  # fmt: skip


def _check_stage(recipe: Recipe, stage: StageConfig, places: Places) -> None:
    def fail(reason: object, *keys: str) -> NoReturn:
        where = places.of("stages", stage.name, *keys)
        raise RecipeError(f"{where}: stage {stage.name!r}: {reason}")

    if not re.fullmatch(r"\w[\w-]*", stage.name) or stage.name in FOLDERS:
        fail("a stage is a folder of the run, so its name is of letters, digits, - and _, and "
             f"none of {', '.join(FOLDERS)}", "name")  # fmt: skip
    names = [one.name for one in recipe.stages]
    above = names[: names.index(stage.name)]
    if stage.after and stage.after not in above:
        hint = nearest(stage.after, above) if above else "it is the first one"
        fail(f"there is no stage {stage.after!r} above it to start from; {hint}", "after")
    if not (stage.data.mixture or stage.rollout) or not (stage.trainable or stage.lora):
        fail("needs data.mixture and trainable")
    if stage.data.mixture and stage.rollout:
        fail("has both data and a rollout, and learns from one of them: make it two stages",
             "rollout")  # fmt: skip
    for name in stage.data.mixture:
        if name not in recipe.sources:
            hint = nearest(name, recipe.sources)
            fail(f"mixture names {name!r}, which is no source; {hint}", "data", "mixture", name)
    try:
        check_objective(stage.objective)
    except EntryError as error:
        fail(error, "objective", *error.keys)
    kind = kind_of(stage.objective)
    if (kind in ON_ROLLOUTS) != bool(stage.rollout):
        ones = " or ".join(ON_ROLLOUTS)
        fail(f"objective {kind} learns from data, and a rollout is for {ones}" if stage.rollout
             else f"objective {kind} learns from what the model answers: add rollout: "
             "{environment: ...} instead of data", "objective")  # fmt: skip
    for key, value, low, high in (
        ("steps", stage.steps, 1, math.inf), ("warmup", stage.warmup, 0, 1),
        ("final_lr", stage.final_lr, 0, math.inf), ("clip", stage.clip, 0, math.inf),
        ("weight_decay", stage.weight_decay, 0, math.inf),
    ):  # fmt: skip
        if not low <= value <= high:
            fail(f"{key} is {value}; it is between {low} and {high}", key)
    for key, kind in (("trainable", Rule), ("lora", Lora)):
        try:
            setattr(stage, key, numbers(getattr(stage, key), kind))
        except EntryError as error:
            fail(error, key, *error.keys)
    try:
        if stage.rollout:
            rollout_of(stage.rollout)
        else:
            plan_config(recipe, stage, ranks=1)
    except EntryError as error:
        fail(error, "rollout" if stage.rollout else "data", *error.keys)
