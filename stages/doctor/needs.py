"""What a stage needs on each rank, by arithmetic: of a model without weights, and without data."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import nn

from data_shards.plan.plan import PlanConfig, check_ranks
from omni.encoders import encoder_class
from omni.encoders.audio import RATE
from omni.model import head
from omni.model.forward import trains
from omni.projectors import item_lengths

from ..engine.kernels import encoder_layers, layers_of
from ..metrics.flops import Flops
from ..objectives import kind_of, objective_class
from ..recipe.schema import Recipe, StageConfig, plan_config
from .reference import sketch_reference

PICTURE = (1120, 560)  # (width, height): the largest frame of a video of Baichuan-Omni-1.5
SOUND = 30.0  # seconds
SINGLE, HALF = 4, 2  # bytes of a number


class Medium(NamedTuple):
    """What one medium costs: a picture of `PICTURE`, or `SOUND` seconds."""

    shown: str
    tokens: int
    cells: int
    """patches or frames that the encoder gives"""
    flops: float
    """of encoder and projector, the backward pass included"""


class RankMemory(NamedTuple):
    """What a rank holds, in bytes; activations are an estimate."""

    weights: int
    reference: int
    """frozen weights that the objective compares with"""
    gradients: int
    moments: int
    """of AdamW"""
    gathered: int
    """copies in half precision, and with `sharding: full` what is not sharded while it runs"""
    activations: int
    """of a full pack, by what linear layers take and give"""


@dataclass(frozen=True)
class Needs:
    """What a stage needs on each of its ranks."""

    packs: int
    """of a step"""
    tokens: int
    """of a full pack"""
    memory: RankMemory
    media: dict[str, Medium]
    text_flops: float
    """of a pack of text alone, in documents as long as may be, each token a label"""
    most_flops: float
    """of a pack all of whose tokens are the costliest medium's, within its limits"""


def needs_of(recipe: Recipe, stage: StageConfig, model: Any, ranks: int) -> Needs:
    """Work out what a stage needs.

    Args:
        recipe: of the stage; `precision: auto` is taken as bf16.
        stage: its patterns must have chosen already what trains.
        model: may lie on the meta device.
        ranks: that share the packs of a step, and the weights with `sharding: full`.

    Raises:
        EntryError: packs that so many ranks cannot share, or an objective that cannot be sharded.
        ValueError: `sharding: full` or `checkpointing` of an LLM that does not list its layers.
    """
    config = plan_config(recipe, stage, ranks)
    check_ranks(config, ranks)
    objective = objective_class(kind_of(stage.objective))
    objective.check_sharding(recipe.sharding)
    runs_llm = objective.runs_llm
    longest = config.max_length or 0
    tokens = config.max_tokens or (config.max_samples or 1) * longest
    flops = Flops(model, runs_llm, objective.runs_part)
    media = {name: _medium(flops, model, name) for name in model.config.modalities}
    full, rest = divmod(tokens, longest)
    text = flops.text([longest] * full + [rest] * (rest > 0), tokens) if runs_llm else 0.0
    held = {name: (medium, _count(config, medium, model, name, tokens))
            for name, medium in media.items()}  # fmt: skip
    most = max((medium.flops * count for medium, count in held.values()), default=0.0)
    activations = _activations(recipe, model, tokens, held, runs_llm)
    memory = RankMemory(**_weights(recipe, stage, model, ranks), activations=activations)
    return Needs(config.packs_per_step, tokens, memory, media, text, text + most)


def _medium(flops: Flops, model: Any, name: str) -> Medium:
    modality = model.config.modalities[name]
    cls = encoder_class(modality["encoder"])
    shown, ref = f"{PICTURE[0]}x{PICTURE[1]} pixels", Image.new("RGB", PICTURE)
    if cls.media == "audio":
        shown, ref = f"{SOUND:g} s", np.zeros(round(SOUND * RATE), np.float32)
    tensors = cls.preprocess(modality["encoder"], ref)
    tokens = sum(item_lengths(modality, tensors))
    cells = sum(prod(grid) for grid in cls.grids(modality["encoder"], tensors))
    inputs = [tensors[name] for name in cls.inputs]
    return Medium(shown, tokens, cells, flops.media(name, inputs, tokens))


def _count(config: PlanConfig, medium: Medium, model: Any, name: str, tokens: int) -> float:
    """Return how many of such media a pack holds at most."""
    image = encoder_class(model.config.modalities[name]["encoder"]).media == "image"
    limit = config.max_patches if image else config.max_frames
    fit = tokens / medium.tokens
    return min(fit, limit / medium.cells) if limit else fit


def _weights(recipe: Recipe, stage: StageConfig, model: Any, ranks: int) -> dict[str, int]:
    """Return the bytes of a rank by part, but for activations."""
    number = _bytes(recipe)
    (weights, trained), share = _sizes(model), 1
    reference = sketch_reference(recipe, stage, model)
    beside = _sizes(reference)[0] if reference else 0
    gathered = HALF * trained * (number == HALF)  # autocast keeps copies for the backward pass
    if recipe.sharding == "full" and ranks > 1:
        share = ranks
        layers = [_sizes(layer) for layer in layers_of(model, "sharding: full")]
        root = [whole - sum(of) for whole, of in zip((weights, trained), zip(*layers, strict=True),
                                                     strict=True)]  # fmt: skip
        # the rest of the model is one unit, which stays; a layer runs while the next one comes
        gathered = number * (sum(root) + beside + 2 * max(map(sum, layers)))
    return {"weights": SINGLE * weights // share, "reference": SINGLE * beside // share,
            "gradients": SINGLE * trained // share, "moments": 2 * SINGLE * trained // share,
            "gathered": gathered}  # fmt: skip


def _activations(
    recipe: Recipe, model: Any, tokens: int, held: dict[str, tuple[Medium, float]], runs_llm: bool
) -> int:
    """Return about how many bytes the backward pass of a pack keeps, all of it one medium.

    Args:
        recipe: says how it runs.
        model: what trains must be set.
        tokens: of the pack.
        held: modality -> a medium, and how many of them the pack holds.
        runs_llm: whether the objective does.
    """
    before = 0.0
    for name, (medium, count) in held.items():
        encoder, projector = model.encoders[name], model.projectors[name]
        again = encoder_layers(encoder) if recipe.checkpointing else []
        of = medium.cells * _kept(recipe, encoder, again, encoder.width) * trains(encoder)
        of += medium.tokens * _kept(recipe, projector, [], 0)
        before = max(before, count * of * (trains(encoder) or trains(projector)))
    if not runs_llm:
        return round(before)
    layers = layers_of(model, "checkpointing") if recipe.checkpointing else []
    text = model.config.text_config.get_text_config()
    width, chunk = text.hidden_size, min(head.LOGITS["cuda"], tokens * text.vocab_size)
    logits = 3 * SINGLE * chunk  # they, their softmax and their gradient
    return round(before) + tokens * _kept(recipe, model.get_decoder(), layers, width) + logits


def _kept(recipe: Recipe, module: nn.Module, again: Sequence[nn.Module], width: int) -> int:
    """Return the bytes that a backward pass keeps of one token of a module.

    Args:
        recipe: says in which precision.
        module: that runs.
        again: its layers, if they run again: then one of them at a time.
        width: of what goes from layer to layer, which autocast leaves in single precision.
    """
    if not again:
        return _bytes(recipe) * _flow(module)
    stream = _bytes(recipe) if recipe.sharding == "full" else SINGLE
    return stream * width * len(again) + _bytes(recipe) * max(map(_flow, again))


def _flow(module: nn.Module) -> int:
    """Return how many numbers a module's linear layers take and give for one token."""
    linear: Iterable[Any] = (m for m in module.modules() if isinstance(m, nn.Linear))
    return sum(m.in_features + m.out_features for m in linear)


def _sizes(module: nn.Module) -> tuple[int, int]:
    """Return how many weights a module has, and how many of them train."""
    of = [*module.parameters()]
    return sum(p.numel() for p in of), sum(p.numel() for p in of if p.requires_grad)


def _bytes(recipe: Recipe) -> int:
    return SINGLE if recipe.precision == "fp32" else HALF
