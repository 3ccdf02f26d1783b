"""How many floating-point operations a batch needs, by part of the model.

What a step needs, not what it did: recomputed activations, padding and masked squares of attention
do not count, so that a higher MFU is always a faster training (Chowdhery et al. 2022, appendix B).
One multiplication with one addition is two operations.
"""

import logging
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from data_shards.read.batch import Batch
from omni.encoders import build_encoder, encoder_class
from omni.model.forward import trains
from omni.model.spec import AS_WORDS

from .codes import CodeFlops

log = logging.getLogger(__name__)


class Matrices(NamedTuple):
    """Numbers of weights: all, those that a gradient passes on its way, those that train."""

    all: float
    passed: float
    trained: float

    @property
    def backward(self) -> float:
        """Return what the gradient costs, in forward passes: 2 if everything trains."""
        return (self.passed + self.trained) / max(1.0, self.all)

    def flops(self, tokens: float) -> float:
        """Return the operations of a forward and backward pass of so many tokens."""
        return 2 * tokens * (self.all + self.passed + self.trained)


def matrices(module: nn.Module, upstream: bool = False, experts: int = 0) -> Matrices:
    """Count the weights of a module that multiply each token.

    Args:
        module: parameters in the order in which it runs; lookup tables are not multiplied.
        upstream: something before it trains, so a gradient passes all of it. Otherwise none goes
            below the first parameter that trains.
        experts: how many of a layer's experts, stacked weights of three dimensions, run.
    """
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    total, passed, trained, reached = 0.0, 0.0, 0.0, upstream
    for parameter in module.parameters():
        reached = reached or parameter.requires_grad
        if parameter.ndim < 2 or id(parameter) in tables:
            continue
        size = parameter.numel()
        if experts and parameter.ndim == 3:
            size *= experts / parameter.shape[0]
        total += size
        passed += size * reached
        trained += size * parameter.requires_grad
    return Matrices(total, passed, trained)


class Flops:
    """Counts the operations of batches; `parts` are "llm", every modality and every head.

    Where they cannot be counted, it says so once, and they are NaN.

    A modality is its encoder and projector. Operations of encoders are read off a run without
    memory or arithmetic (on torch's meta device), once for each shape of a medium.

    Args:
        model: what trains must be set already.
        runs_llm: whether the objective does; else it scores media tokens against the table, or
            runs a part of speech alone.
        part: of speech that it runs, see `Objective.runs_part`.
    """

    def __init__(self, model: Any, runs_llm: bool, part: str = ""):
        self.model, self.runs_llm = model, runs_llm
        self.parts: tuple[str, ...] = ("llm", *model.config.modalities, *model.config.heads)
        self._codes = CodeFlops(model, part) if part else None
        self._decoder = CodeFlops(model, "codec") if part == "flow" else None  # it corrects
        self._sketches: dict[str, nn.Module] = {}
        self._known: dict[tuple, float] = {}
        self._uncounted: set[str] = set()
        self._cached = self._cache()

    @cached_property
    def _parts(self) -> tuple[Matrices, Matrices, dict[str, Matrices], dict[str, Matrices]]:
        """Count the LLM without its head, its head, the encoders and the projectors."""
        encoders = {n: matrices(m) for n, m in self.model.encoders.items()}
        projectors = {
            n: matrices(m, trains(self.model.encoders[n])) for n, m in self.model.projectors.items()
        }
        return *_llm(self.model), encoders, projectors

    def of(self, batch: Batch) -> dict[str, float]:
        """Return the operations of a batch on the host that was run just now, by part."""
        try:
            return self._of(batch)
        except Exception as error:  # a figure of the log ends no run
            self._warn("llm", "there is no MFU, operations", error)
            return dict.fromkeys(self.parts, math.nan)

    def _warn(self, part: str, what: str, error: Exception) -> None:
        if part not in self._uncounted:
            self._uncounted.add(part)
            log.warning("%s cannot be counted: %s", what, error)

    def _of(self, batch: Batch) -> dict[str, float]:
        head = self._parts[1]
        found = dict.fromkeys(self.parts, 0.0)
        answered = self._answered()
        for name, spec in self.model.config.modalities.items():
            cls = encoder_class(spec["encoder"])
            media = self.model.take_media(name, dict(batch.tensors))
            if media is None or self._unheard(name):
                continue
            tokens = int((batch.tensors["input_ids"] == spec["token_id"]).sum())
            found[name] += self.media(name, media, tokens, answered)
            if not (self.runs_llm or self._codes):  # scored against the table: see objectives.align
                per_document = sum(name in m.split("+") for m in batch.documents.modalities)
                rows = tokens if cls.media == "audio" else per_document
                found["llm"] += 2 * 2 * rows * head.all
        if self.runs_llm:
            found["llm"] += self.text(batch.documents.lengths, sum(batch.documents.labels))
        if codes := self._codes:
            of = matrices(codes.trained, upstream=True)
            found[codes.name] += codes.forward(batch.tensors) * (1 + of.backward)
        if self._decoder is not None:
            found[self._decoder.name] += self._decoder.forward(batch.tensors)
        return found

    def _unheard(self, name: str) -> bool:
        """Tell whether a modality's media are frames for the vocoder, which its encoder skips."""
        codes = self._codes
        return codes is not None and codes.part == "vocoder" and name == self.model.codec

    def media(
        self, name: str, media: Sequence[torch.Tensor], tokens: int, answered: float = 0.0
    ) -> float:
        """Return what a modality's encoder and projector do, backward pass included.

        Args:
            name: of the modality.
            media: the inputs of its encoder.
            tokens: that they become.
            answered: the share of a frozen encoder's work that its cache spares.
        """
        _, head, encoders, projectors = self._parts
        modality = self.model.config.modalities[name]
        spec = modality["encoder"]
        items = encoder_class(spec).split(spec, *media)
        once = sum(self._forward(name, item) for item in items)
        frozen = not trains(self.model.encoders[name])
        encoder = once * (1 - answered if frozen else 1 + encoders[name].backward)
        projector = projectors[name].flops(tokens)
        if self.runs_llm and modality.get(AS_WORDS):  # two products with the table, and back
            projector += 2 * 2 * tokens * head.all * (2 if projectors[name].trained else 1)
        return encoder + projector

    def text(self, lengths: Sequence[int], labels: float) -> float:
        """Return what the LLM does: all tokens, attention within documents, head at labels."""
        llm, head, *_ = self._parts
        squares = sum(length**2 for length in lengths)
        attention = 4 * attention_width(self.model) * squares  # scores, and their mix
        attention *= 1 + 2 * llm.passed / llm.all
        return llm.flops(sum(lengths)) + attention + head.flops(labels)

    def _forward(self, name: str, item: tuple[torch.Tensor, ...]) -> float:
        """Return the operations of encoding one medium."""
        key = (name, *(tuple(tensor.shape) for tensor in item))
        if key not in self._known:
            try:
                self._known[key] = self._count(name, item)
            except Exception as error:  # whatever an encoder cannot do without memory
                self._warn(name, f"encoder {name!r}: MFU leaves it out, its operations", error)
                self._known[key] = 0.0
        return self._known[key]

    def _count(self, name: str, item: tuple[torch.Tensor, ...]) -> float:
        counter = FlopCounterMode(display=False)
        encoder: Any = self._sketch(name)
        tensors = [t if n in encoder.host_inputs else t.to("meta")
                   for n, t in zip(encoder.inputs, item, strict=True)]  # fmt: skip
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            encoder(*tensors)
        return float(counter.get_total_flops())

    def _sketch(self, name: str) -> nn.Module:
        if name not in self._sketches:
            with torch.device("meta"):
                encoder = build_encoder(self.model.config.modalities[name]["encoder"])
            self._sketches[name] = encoder.eval()
        return self._sketches[name]

    def _cache(self) -> tuple[int, int]:
        cache = self.model.feature_cache
        return (cache.hits, cache.misses) if cache else (0, 0)

    def _answered(self) -> float:
        """Return the share of frozen encoders' work that their cache spared since the last call."""
        (hits, misses), before = self._cache(), self._cached
        self._cached = hits, misses
        asked = hits + misses - sum(before)
        return (hits - before[0]) / asked if asked else 0.0


def attention_width(model: Any) -> int:
    """Return the sum over an LLM's layers of heads times their size.

    Layers may have heads of several sizes, so each is asked; where none says, the config is.
    """
    config = model.config.text_config.get_text_config(decoder=True)
    attending = [m for m in model.get_decoder().modules() if hasattr(m, "head_dim")]
    if attending:
        return sum(_heads(m, config) * m.head_dim for m in attending)
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return heads * size * config.num_hidden_layers


def _heads(attention: Any, config: Any) -> int:
    return getattr(attention, "num_heads", None) or config.num_attention_heads


def _llm(model: Any) -> tuple[Matrices, Matrices]:
    """Count the LLM without its head, and its head."""
    head = model.get_output_embeddings().weight
    table = model.get_input_embeddings().weight
    before = any(trains(m) for kind in (model.encoders, model.projectors) for m in kind.values())
    config = model.config.text_config.get_text_config(decoder=True)
    experts = getattr(config, "num_experts_per_tok", None) or 0
    body = matrices(model.get_decoder(), before, experts)
    below = before or body.trained > 0 or table.requires_grad
    size = head.numel()
    return body, Matrices(size, size * below, size * head.requires_grad)
