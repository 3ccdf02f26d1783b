"""What a stage starts with: its parent with new modalities attached, its plan and its loader."""

import copy
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from data_shards.index.index import Index
from data_shards.plan.plan import Plan
from data_shards.read.loader import Loader
from data_shards.remote.origin import manifests
from data_shards.shards.manifest import split_digest
from omni import OmniForConditionalGeneration, OmniProcessor
from omni.entry import EntryError
from omni.features.cache import FeatureCache
from omni.load import check_checkpoint, load
from omni.model.forward import load_text_tokenizer
from omni.model.isolation import check_vocabulary
from omni.weights import WeightsError

from ..objectives import kind_of, objective_class
from ..recipe.sampled import Sampled, source_of
from ..recipe.schema import Recipe, StageConfig, ancestors, forks, plan_config, shards_of
from ..trainable.new_tokens import add_tokens


def make_model(
    recipe: Recipe, stage: StageConfig, parent: Path | None, accelerator: Accelerator
) -> tuple[OmniForConditionalGeneration, OmniProcessor]:
    """Load the parent, attach what the stage adds, and print every licence."""
    with accelerator.main_process_first():  # which fetches and converts, the others find it done
        model, processor = load_parent(recipe, parent)
        extend(model, processor, stage)
    model.config.parts |= data_records(recipe, stage)
    for name, part in model.config.parts.items():
        accelerator.print(f"{name}: {part['source']}, licence {part['license']}")
    return model, processor


class Grown:
    """Model and processor as each stage leaves them, for the stages that start from it."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self._made: dict[str, tuple[Any, Any]] = {}

    def before(self, stage: StageConfig) -> tuple[Any, Any] | None:
        """Return what a stage starts from, or None: no stage that it builds on was kept.

        It is a copy where a later stage starts from the same.
        """
        before = ancestors(self.recipe, stage)
        found = self._made.get(before[-1].name) if before else None
        return copy.deepcopy(found) if found and forks(self.recipe, stage) else found

    def keep(self, stage: StageConfig, model: Any, processor: Any) -> None:
        self._made[stage.name] = model, processor


def load_parent(
    recipe: Recipe, parent: Path | None, sketch: bool = False
) -> tuple[OmniForConditionalGeneration, OmniProcessor]:
    """Load a finished stage; without one, what the recipe starts from.

    Args:
        recipe: says what that is.
        parent: a stage's checkpoint.
        sketch: the model without its weights, see `OmniForConditionalGeneration.sketch`.
    """
    model, processor = _load(parent or Path(recipe.text), parent, recipe.text, sketch)
    processor.show_video(recipe.video)
    return model, processor


def _load(start: Path, parent: Path | None, text: str, sketch: bool) -> tuple[Any, Any]:
    if parent or (start / "processor_config.json").is_file():
        if not sketch:
            return load(start)
        check_checkpoint(start)
        return OmniForConditionalGeneration.sketch(str(start)), OmniProcessor.from_pretrained(start)
    model = OmniForConditionalGeneration
    tokenizer = load_text_tokenizer(text)
    made = model.sketch(text) if sketch else model.from_text(text)
    check_vocabulary(made, tokenizer)
    return made, OmniProcessor(tokenizer)


def extend(model: OmniForConditionalGeneration, processor: OmniProcessor, stage: StageConfig):
    """Attach what a stage adds to its parent."""
    for name, spec in stage.attach.items():
        try:
            model.attach(name, spec, processor)
        except EntryError as error:
            raise EntryError(error, "attach", name, *error.keys) from error
        except WeightsError as error:
            raise EntryError(error, "attach", name, "encoder", "weights") from error
    add_tokens(model, processor, stage.new_tokens)


def make_feature_cache(recipe: Recipe) -> FeatureCache | None:
    """Return where the recipe wants outputs of frozen encoders to be kept, None for nowhere."""
    if not recipe.feature_cache_mb:
        return None
    folder = None if recipe.feature_cache == "memory" else recipe.feature_cache
    return FeatureCache(recipe.feature_cache_mb << 20, folder)


def data_records(recipe: Recipe, stage: StageConfig) -> dict[str, dict[str, str]]:
    """Return what the checkpoint remembers of the stage's data: source, licences, split."""
    records = {}
    for name in stage.data.mixture:
        found = manifests(shards_of(recipe, name)).values()
        licenses = {f"{k}: {v}" for m in found for k, v in m.get("licenses", {}).items()}
        records[f"data.{name}"] = {
            "source": ", ".join(m.get("source", "unknown") for m in found)
            or "unknown: no manifest.json",
            "license": ", ".join(sorted(licenses)) or "unknown",
            "split": ", ".join(f"{m.get('source')}:{split_digest(m)}" for m in found),
        }
    return records


def open_source(recipe: Recipe, name: str) -> Index:
    """Index the shards of a source.

    Raises:
        FileNotFoundError: there are none, or they are not sampled yet.
    """
    source, patterns = source_of(recipe.sources[name]), shards_of(recipe, name)
    if isinstance(source, Sampled) and not Path(patterns[0]).parent.is_dir():
        miners = " and ".join(map(repr, source.stages))
        raise FileNotFoundError(
            f"source {name!r} is what stage {miners} answers, and is sampled by the run "
            "before the first stage that is trained on it; it is not yet"
        )
    return Index.open(patterns)


def make_plan(recipe: Recipe, stage: StageConfig, processor: Any, ranks: int) -> Plan:
    """Plan the stage's data for a number of ranks."""
    sources = {name: open_source(recipe, name) for name in stage.data.mixture}
    rendering = objective_class(kind_of(stage.objective)).rendering
    lengths = {name: index.lengths(processor, rendering) for name, index in sources.items()}
    return Plan(sources, plan_config(recipe, stage, ranks), lengths)


def make_loader(
    recipe: Recipe, stage: StageConfig, processor: Any, folder: Path, accelerator: Accelerator
) -> Loader:
    """Make this rank's loader; bad samples are listed in `folder`."""
    ranks = accelerator.num_processes
    with accelerator.main_process_first():  # which scans and counts, the others find it done
        plan = make_plan(recipe, stage, processor, ranks)
    return Loader(
        plan, processor, rank=accelerator.process_index, world_size=ranks,
        quarantine=folder / "quarantine.jsonl", workers=recipe.threads,
        rendering=objective_class(kind_of(stage.objective)).rendering,
    )  # fmt: skip
