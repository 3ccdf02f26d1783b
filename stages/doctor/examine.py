"""What a stage would be trained on, and whether it fits: found out without training it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_shards.plan.epoch import Packs, fates
from data_shards.plan.packing import Pack
from data_shards.plan.plan import Plan
from data_shards.read.batch import Row, rows_of
from data_shards.read.encode import Encode
from data_shards.shards.rendering import Rendering
from data_shards.shards.shard import BadSample
from omni.load import CheckpointError
from omni.model.forward import trains
from omni.processing.processor import IGNORE_INDEX, Encoded, placeholder
from omni.weights import WeightsError

from ..engine.precision import choose_precision
from ..objectives import kind_of, objective_class
from ..recipe.schema import Recipe, StageConfig, ancestors
from ..trainable.lora import adapt
from ..trainable.patterns import PatternError, describe, param_groups
from ..training.prepare import data_records, extend, load_parent, make_plan
from .comparison import ROUNDING, TOLERANCE, Comparison, packed_equals_unpacked
from .forecast import Memory, Seconds, measure, memory_of, size
from .reference import sketch_reference

HORIZON = 64  # steps of the plan that are looked at
MOST_DROPPED = 0.1  # of a source
MOST_BAD = 0.5  # of the samples drawn of a source
COMPARED = 4  # documents at least, of all sources; in float64 a deep model takes its time


@dataclass
class Source:
    """A source of the stage: all of it by its index, and some samples drawn of it."""

    name: str
    license: str
    tokens: np.ndarray  # (rows,): LLM tokens of each sample; 0: it cannot be encoded
    fates: dict[str, tuple[int, str]]
    """what becomes of samples that are not used whole: how many, and the first with the reason"""
    drawn: list[list[Encoded]]
    """the documents of some samples"""
    bad: list[str]
    """the samples drawn that cannot be used, each with the reason"""
    used: float = 0.0
    """samples drawn in the whole stage, by the plan"""

    @property
    def dropped(self) -> float:
        """Return the share of samples that are known to be left out."""
        lost = [self.fates.get(fate, (0, ""))[0] for fate in ("damaged", "skipped")]
        return sum(lost) / (len(self.tokens) + lost[0])


@dataclass
class Examination:
    """All that was found about a stage; it is well if there are no reasons against it."""

    stage: str
    start: str = ""
    parts: dict[str, str] = field(default_factory=dict)
    """part of the model -> source and licence"""
    trains: str = ""
    """a table of what trains, and how"""
    sources: list[Source] = field(default_factory=list)
    packs: Packs | None = None
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    """modality -> placeholders in the samples drawn, features that the model made of them"""
    memory: Memory | None = None
    seconds: Seconds | None = None
    total: tuple[float, float] = (0.0, 0.0)
    """seconds of the whole stage with an empty feature cache and with a full one"""
    comparisons: list[Comparison] = field(default_factory=list)
    """packed and unpacked, in float32 and, if that rounds too much, in float64"""
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """what does not keep the stage from being trained, but should be known"""
    processor: Any = None


def examine(recipe: Recipe, stage: StageConfig, count: int) -> Examination:
    """Look at a stage with `count` samples of each source; nothing is written.

    What cannot be had (weights, shards, patterns that match nothing) is among the reasons.
    """
    found = Examination(stage.name)
    try:
        _examine(found, recipe, stage, count)
    except (CheckpointError, PatternError, WeightsError, ValueError, OSError,
            torch.OutOfMemoryError) as error:  # fmt: skip
        found.reasons.append(str(error))
    return found


def _examine(found: Examination, recipe: Recipe, stage: StageConfig, count: int) -> None:
    model, found.processor, found.start = _load(recipe, stage)
    found.parts = _origins(model)
    if not found.processor.end_of_turn:
        found.notes.append(
            "the chat template prints nothing after an answer, so answers carry no end marker and "
            "the model does not learn to stop; give the tokenizer a template with one"
        )
    groups = param_groups(
        model, adapt(model, stage, found.processor), stage.weight_decay, stage.warmup
    )
    found.trains = describe(model, stage.name, groups)
    plan = make_plan(recipe, stage, found.processor, 1)
    records = data_records(recipe, stage)
    rendering = objective_class(kind_of(stage.objective)).rendering
    for name in plan.names:
        drawn, bad = draw(plan, name, Encode(found.processor, rendering), count)
        found.sources.append(Source(
            name, records[f"data.{name}"]["license"], plan.lengths[name].tokens,
            fates(plan, name), drawn, bad,
        ))  # fmt: skip
    found.reasons += [reason for source in found.sources for reason in _against(source)]
    steps = list(islice((step.packs for step in plan.steps()), min(HORIZON, stage.steps)))
    packs = [pack for step in steps for pack in step]
    found.packs = Packs(
        len(steps[0]), np.array([pack.tokens for pack in packs]),
        np.array([len(pack.items) for pack in packs]), plan.config.max_tokens,
    )  # fmt: skip
    drawn = Counter(item.source for pack in packs for item in pack.items)
    for source in found.sources:
        source.used = drawn[source.name] * stage.steps / len(steps)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cache = recipe.feature_cache_mb << 20
    in_memory = cache if recipe.feature_cache == "memory" else 0
    reference = sketch_reference(recipe, stage, model)
    found.memory = memory_of(model, reference, in_memory, device)
    if _too_much(found):
        return
    model.to(device)
    found.counts = count_features(model, found.processor, found.sources)
    unequal = [
        f"{placeholders} {name} placeholders for {features} features"
        for name, (placeholders, features) in found.counts.items()
        if placeholders != features
    ]
    found.reasons += unequal
    if not unequal and any(source.drawn for source in found.sources):
        _forecast(found, recipe, stage, model, plan, packs, cache, rendering)
        _compare(found, model, stage.objective)


def start_of(recipe: Recipe, stage: StageConfig) -> tuple[Path | None, list[StageConfig]]:
    """Return the checkpoint of the last finished stage before one, if any, and those between."""
    before = ancestors(recipe, stage)
    done = [s for s in before if (Path(recipe.output) / s.name / "stage.json").is_file()]
    parent = Path(recipe.output) / done[-1].name if done else None
    return parent, before[before.index(done[-1]) + 1 if done else 0 :]


def _load(recipe: Recipe, stage: StageConfig) -> tuple[Any, Any, str]:
    """Return model, processor and what they start from."""
    parent, between = start_of(recipe, stage)
    model, processor = load_parent(recipe, parent)
    for later in [*between, stage]:
        extend(model, processor, later)
    return model, processor, str(parent or recipe.text)


def _origins(model: Any) -> dict[str, str]:
    """Return where each part of the model comes from, with its licence."""
    parts = {"language_model": "text"}
    parts |= {f"encoders.{name}": name for name in model.config.modalities}
    records = {part: model.config.parts.get(name) for part, name in parts.items()}
    return {part: f"{r['source']}, licence {r['license']}" if r else "random weights"
            for part, r in records.items()}  # fmt: skip


def draw(
    plan: Plan, name: str, encode: Encode, count: int
) -> tuple[list[list[Encoded]], list[str]]:
    """Encode a source's first samples in its planned order; return what was bad as text."""
    alone = Plan({name: plan.sources[name]}, replace(plan.config, mixture={name: 1}),
                 {name: plan.lengths[name]})  # fmt: skip
    packs = (pack for step in alone.steps() for pack in step.packs)
    found = (row for pack in packs for row in rows_of(alone, pack))
    return _encode(islice(found, min(count, len(plan.sources[name]))), encode)


def _encode(found: Iterator[Row], encode: Encode) -> tuple[list[list[Encoded]], list[str]]:
    good, bad = [], []
    for row in found:
        try:
            good.append(encode(row))
        except BadSample as error:
            bad.append(str(error))
    return good, bad


def _against(source: Source) -> list[str]:
    """Return what of a source speaks against training."""
    reasons = []
    if source.dropped > MOST_DROPPED:
        examples = [source.fates[f][1] for f in ("skipped", "damaged") if f in source.fates]
        reasons.append(
            f"source {source.name!r}: {source.dropped:.0%} of its samples are left out, such as "
            f"{examples[0]}"
        )
    drawn = len(source.drawn) + len(source.bad)
    if len(source.bad) > MOST_BAD * drawn:
        reasons.append(
            f"source {source.name!r}: {len(source.bad)} of {drawn} samples drawn cannot be used, "
            f"such as {source.bad[0]}"
        )
    return reasons


@torch.no_grad()
def count_features(model: Any, processor: Any, sources: list[Source]) -> dict[str, tuple[int, int]]:
    """Return, per modality, placeholders in the samples drawn and features the model makes."""
    counts: dict[str, tuple[int, int]] = {}
    for name, spec in model.config.modalities.items():
        placeholders = features = 0
        samples = [documents for source in sources for documents in source.drawn]
        for encoded in (e for documents in samples for e in documents if name in e.media):
            media = model.take_media(name, processor.pack([encoded])) or []
            media = [tensor.to(model.device) for tensor in media]
            placeholders += int((encoded.input_ids == spec["token_id"]).sum())
            features += len(model.encode(name, *media))
        counts[name] = placeholders, features
    return counts


def _too_much(found: Examination) -> bool:
    """Tell, and note among the reasons, whether the stage does not fit into the memory."""
    assert found.memory
    needed, there = found.memory.needed, found.memory.available
    if needed > there:
        found.reasons.append(f"needs {size(needed)} of memory, {size(there)} are there")
    return needed > there


def _forecast(
    found: Examination, recipe: Recipe, stage: StageConfig, model: Any, plan: Plan,
    packs: list[Pack], cache: int, rendering: Rendering,
) -> None:  # fmt: skip
    """Measure a pack of average size and conclude on the stage."""
    assert found.memory and found.packs
    mean, largest = found.packs.tokens.mean(), found.packs.tokens.max()
    typical = min(packs, key=lambda pack: abs(pack.tokens - mean))
    samples, _ = _encode(iter(rows_of(plan, typical)), Encode(found.processor, rendering))
    encoded = [document for sample in samples for document in sample]
    if not encoded:
        return
    row = {k: v.to(model.device) for k, v in found.processor.pack(encoded).items()}
    frozen = not all(trains(encoder) for encoder in model.encoders.values())
    half = choose_precision(recipe.precision) == "bf16"
    cache_bytes = cache if frozen else 0
    seconds, held = measure(model, stage.objective, row, cache_bytes, half)
    found.seconds = seconds
    activations = int(held * largest / sum(map(len, encoded)))
    found.memory = found.memory._replace(activations=activations)
    _too_much(found)
    total = stage.steps * found.packs.per_step
    used = sum(source.used for source in found.sources)
    new = sum(min(source.used, len(source.tokens)) for source in found.sources) / used
    update, again = stage.steps * seconds.update, total * seconds.again
    empty = total * (new * seconds.first + (1 - new) * seconds.again)
    found.total = update + empty, update + again


def _compare(found: Examination, model: Any, objective: Any) -> None:
    each = -(-COMPARED // len(found.sources))
    samples = [sample for source in found.sources for sample in source.drawn[:each]]
    encoded = [document for sample in samples for document in sample]

    def compare(dtype: torch.dtype) -> Comparison:
        return packed_equals_unpacked(
            model, found.processor, encoded, dtype=dtype, objective=objective
        )

    found.comparisons.append(compare(torch.float32))
    if found.comparisons[-1].ok:
        return
    try:
        found.comparisons.append(compare(torch.float64))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # kernels of experts, for one, have no double
        found.comparisons[-1] = found.comparisons[-1]._replace(tolerance=ROUNDING)
        reason = " ".join(str(error).split())[:150]
        found.notes.append(
            f"this model does not run in float64 ({reason}), which would tell rounding from "
            f"leaking: packed and unpacked may differ by {ROUNDING:g} in float32 instead of "
            f"{TOLERANCE:g}"
        )
    worst = found.comparisons[-1]
    if not worst.ok:
        found.reasons.append(
            f"packing changes the training: a loss of {worst.packed:.7f} instead of "
            f"{worst.alone:.7f}, a gradient of {worst.parameter} off by {worst.difference:.1e}"
        )


def spans(encoded: Encoded, processor: Any) -> list[tuple[str, str]]:
    """Cut a sample into ("prompt" | "label" | "media", text); a run of placeholders is one."""
    names = {spec["token_id"]: placeholder(name) for name, spec in processor.modalities.items()}
    ids, labels = encoded.input_ids.tolist(), encoded.labels.tolist()
    kinds = [
        "media" if token in names else "prompt" if label == IGNORE_INDEX else "label"
        for token, label in zip(ids, labels, strict=True)
    ]
    runs: list[tuple[str, list[int]]] = []
    for kind, token in zip(kinds, ids, strict=True):
        if not runs or runs[-1][0] != kind or (kind == "media" and runs[-1][1][-1] != token):
            runs.append((kind, []))
        runs[-1][1].append(token)
    return [
        (
            kind,
            f"{names[run[0]]}x{len(run)}" if kind == "media" else processor.tokenizer.decode(run),
        )
        for kind, run in runs
    ]
