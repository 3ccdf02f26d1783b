"""Every stage of a recipe is looked at before the first one is trained.

The stages' own code runs, on a model without weights (see `OmniForConditionalGeneration.sketch`)
and on samples of each source. So what a late stage would fail on is found in seconds.
"""

import copy
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from data_shards.index.index import Index
from data_shards.plan.plan import check_ranks
from data_shards.read.encode import check_overlong
from data_shards.remote.origin import manifests
from eval.run import choose
from eval.suites.mine import shards_of
from omni.entry import EntryError
from omni.load import CheckpointError
from omni.model.forward import trains
from omni.model.positions import positions_of
from omni.weights import WeightsError

from ..objectives import kind_of, objective_class
from ..recipe.places import Places
from ..recipe.sampled import Sampled, source_of
from ..recipe.schema import Recipe, StageConfig, checkpoint_before, plan_config
from ..rollouts.world import check_rollouts
from ..sampling.derive import check_prompts
from ..trainable.lora import adapt
from ..trainable.patterns import PatternError, param_groups
from .prepare import Grown, extend, load_parent
from .probes import SUITE
from .samples import check_media, check_samples


class Mistake(NamedTuple):
    """What is wrong with a stage, and where the recipe says so."""

    where: str
    stage: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: stage {self.stage!r}: {self.reason}"


def find_mistakes(
    recipe: Recipe, places: Places, stages: Sequence[StageConfig], ranks: int = 1,
    checked: Collection[str] | None = None,
) -> list[Mistake]:  # fmt: skip
    """Go through stages in order, and return what each of them would fail on.

    Shards that are not indexed yet are, as they would be in their stage.

    Args:
        recipe: what the stages are of.
        places: where it says what.
        stages: in order; what one starts from is among them, or finished, or the recipe's text.
        ranks: processes that share the work.
        checked: names of stages; what the others train, and on what, is not looked at.
    """
    if not stages:
        return []
    preflight = _Preflight(recipe, places, ranks)
    if recipe.probes.samples:
        with preflight.noting(stages[0], root="probes"):
            preflight.check_probes()
    for stage in stages:
        preflight.enter(stage)
        if checked is None or stage.name in checked:
            preflight.check(stage)
    return preflight.found


class _Preflight:
    """What was found so far, and the model as it will be; None once it cannot be made."""

    def __init__(self, recipe: Recipe, places: Places, ranks: int):
        self.recipe, self.places, self.ranks = recipe, places, ranks
        self.found: list[Mistake] = []
        self.model: Any = None
        self.processor: Any = None
        self._indices: dict[str, Index] = {}
        self._grown = Grown(recipe)

    @contextmanager
    def noting(self, stage: StageConfig, *keys: str, root: str = "") -> Iterator[None]:
        """Note what fails inside as a mistake of a stage, at these keys or those it names."""
        try:
            yield
        except (EntryError, WeightsError, CheckpointError, ValueError, OSError) as error:
            below = (*keys, *error.keys) if isinstance(error, EntryError) else keys
            where = self.places.of(*([root, *below] if root else ["stages", stage.name, *below]))
            self.found.append(Mistake(where, stage.name, " ".join(str(error).split())))

    def check_probes(self) -> None:
        """Look for the rows of the suite that are asked after each stage."""
        try:
            choose(SUITE, self.recipe.probes.rows)
        except ValueError as error:
            raise EntryError(error, "rows") from error
        try:
            for path in self.recipe.probes.heldout:
                shards_of(Path(path))
        except FileNotFoundError as error:
            raise EntryError(error, "heldout") from error

    def enter(self, stage: StageConfig) -> None:
        """Take the model that a stage starts from, and attach what it adds."""
        self.model = None
        with self.noting(stage, root="text"):
            start = checkpoint_before(self.recipe, stage)
            model, self.processor = self._grown.before(stage) or load_parent(
                self.recipe, start, sketch=True
            )
            with self.noting(stage):
                if model:
                    extend(model, self.processor, stage)
                    self.model = model
        self._grown.keep(stage, self.model, self.processor)

    def check(self, stage: StageConfig) -> None:
        """Note what a stage fails on, whose model is there."""
        with self.noting(stage):
            if self.model:
                self._check_training(stage)
        if stage.rollout:
            with self.noting(stage, "rollout"):
                self._check_rollouts(stage)
            return
        config = plan_config(self.recipe, stage, self.ranks)
        rendering = objective_class(kind_of(stage.objective)).rendering
        with self.noting(stage, "data"):
            check_ranks(config, self.ranks)
            check_overlong(config, rendering)
            if self.model:
                _check_positions(self.model, config.max_length or 0)
        for name in stage.data.mixture:
            source = source_of(self.recipe.sources[name])
            if isinstance(source, Sampled):
                with self.noting(stage, name, "sample", root="sources"):
                    if self.model:
                        check_prompts(source, self.processor, rendering)
                continue
            with self.noting(stage, name, root="sources"):
                if name not in self._indices:
                    manifests(source)
                    self._indices[name] = Index.open(source)
            with self.noting(stage, "data"):
                if self.model and name in self._indices:
                    check_media(name, self._indices[name], self.processor)
                    index = self._indices[name]
                    check_samples(name, index, self.processor, config, rendering)

    def _check_rollouts(self, stage: StageConfig) -> None:
        if self.model:
            check_rollouts(stage, self.model, self.processor)

    def _check_training(self, stage: StageConfig) -> None:
        """Choose what trains, as a stage does, in a copy: adapters are gone after it."""
        model = copy.deepcopy(self.model)
        patterns = adapt(model, stage, self.processor)
        param_groups(model, patterns, stage.weight_decay, stage.warmup)
        parts = (model.encoders, model.projectors, model.heads)
        kind = kind_of(stage.objective)
        objective_class(kind).check_sharding(self.recipe.sharding)
        objective_class(kind).check(model)
        if not (objective_class(kind).runs_llm
                or any(trains(module) for part in parts for module in part.values())):  # fmt: skip
            raise PatternError(
                f"objective {kind} trains encoders, projectors and heads, and none of them has a "
                "learning rate; name one, or use objective sft", "trainable",
            )  # fmt: skip


def _check_positions(model: Any, max_length: int) -> None:
    """Refuse documents that are longer than the LLM has positions for.

    Raises:
        EntryError: says how many it has.
    """
    positions = positions_of(model.config.text_config)
    if positions and max_length > positions:
        raise EntryError(
            f"documents of up to {max_length:,} tokens (max_length) for an LLM that has positions "
            f"for {positions:,}: set data.max_length: {positions}", "max_length",
        )  # fmt: skip
