"""What every objective is: options, documents, a denominator, and a loss by document."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args, get_origin

import torch
from torch import nn

from data_shards.read.batch import Documents
from data_shards.shards.rendering import CONVERSATION, Rendering
from omni.encoders import codec_of
from omni.entry import EntryError
from omni.nearest import nearest


class Loss(NamedTuple):
    """What a batch costs.

    `total` is a scalar with a gradient: the batch's sum divided by the count of the whole global
    batch. `by_document`, (at least as many as documents,), are the sums of each, for the log.
    `sums` are the objective's `figures`, scalars, which the log divides by the same count.
    """

    total: torch.Tensor
    by_document: torch.Tensor
    sums: Mapping[str, torch.Tensor] = MappingProxyType({})


@dataclass(frozen=True)
class NoOptions:
    """Nothing to choose."""


def split_numbers(
    batch: Mapping[str, Any], names: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return what the model takes of a batch, and the numbers of its documents, (1, n) each."""
    numbers = {name: batch[name] for name in names if name in batch}
    return {name: value for name, value in batch.items() if name not in numbers}, numbers


def document_sums(values: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Add up what labels have by document: (N,) -> (T,), zeros after the last document.

    As long as the row, since counting the documents would synchronise with a GPU.
    """
    owner = label_documents(batch)
    places = batch["position_ids"].shape[1]
    return torch.zeros(places, device=owner.device).index_add(0, owner, values)


def label_documents(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the number of each label's document, (N,)."""
    # a label's document is that of the token before it
    return token_documents(batch).index_select(0, batch["label_positions"][0])


def token_documents(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the number of each token's document, (T,)."""
    return (batch["position_ids"][0] == 0).cumsum(0) - 1


def frozen_copy(model: Any, text_alone: bool = False) -> nn.Module:
    """Return a copy of a model as it is now, without what its frozen encoders returned so far.

    With `text_alone` it has no encoders, projectors or heads, as none of them runs on text.
    """
    others = (model.encoders, model.projectors, model.heads) if text_alone else ()
    left_out = {id(parts): nn.ModuleDict() for parts in others}
    return copy.deepcopy(model, {id(model.feature_cache): None, **left_out})


def _check_option(name: str, value: Any, kind: Any) -> None:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise EntryError(f"{name} is {' or '.join(get_args(kind))}, not {value!r}; "
                             f"{nearest(value, get_args(kind))}", name)  # fmt: skip
    elif kind is bool:
        if not isinstance(value, bool):
            raise EntryError(f"{name} is true or false, not {value!r}", name)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise EntryError(f"{name} is a number, not {value!r}", name)


class Objective:
    """How a model and a batch make a loss. It must not matter how a step is cut into batches."""

    options_class: ClassVar[type] = NoOptions
    """a dataclass of numbers, switches (bool) and choices (Literal), each with a default"""
    runs_llm: ClassVar[bool] = True
    rendering: ClassVar[Rendering] = CONVERSATION
    """which documents a sample becomes"""
    figures: ClassVar[tuple[str, ...]] = ()
    """names of what else a loss tells, see `Loss.sums`; the log has each as a mean"""
    compares: ClassVar[bool] = False
    """with the model as the stage found it: see `Task`"""
    evaluates_alone: ClassVar[bool] = False
    """whether only training needs what `make_extra` returns"""
    needs: ClassVar[tuple[str, ...]] = ()
    """what a model must have: "codec", or kinds of heads; see `check`"""
    shards: ClassVar[bool] = True
    """whether weights may be sharded over ranks; see `check_sharding`"""
    runs_part: ClassVar[str] = ""
    """the part that makes or takes codes: "codec" (its decoder too) or the kind of a head"""
    looks: ClassVar[bool] = False
    """whether `prepare` is to be called"""
    extra: nn.Module | None = None
    """what `make_extra` returned for the model that is trained"""

    def __init__(self, options: Any = None):
        self.options = self.options_class() if options is None else options

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Make it with some options.

        Raises:
            EntryError: one is unknown (the nearest is named), of another type, or out of range.
        """
        known = {field.name: field.type for field in fields(cls.options_class)}
        for name, value in options.items():
            if name not in known:
                raise EntryError(f"{cls.__name__.lower()} takes no {name!r}; "
                                 f"{nearest(name, known)}", name)  # fmt: skip
            _check_option(name, value, known[name])
        return cls(cls.options_class(**options))

    @classmethod
    def check(cls, model: Any) -> None:
        """Refuse a model that lacks what is trained here, or one that cannot be trained yet.

        Raises:
            EntryError: says what to attach.
        """
        codec = codec_of(model.config.modalities)
        for kind in cls.needs:
            if not (codec if kind == "codec" else model.head_of(kind)):
                how = ("{encoder: {kind: codec, ...}, projector: {kind: codes}}"
                       if kind == "codec" else f"{{head: {{kind: {kind}}}}}")  # fmt: skip
                raise EntryError(f"objective {cls.__name__.lower()} needs a {kind}, and the model "
                                 f"has none: attach one, {how}", "objective")  # fmt: skip

    @classmethod
    def check_sharding(cls, sharding: str) -> None:
        """Refuse weights in shares where the objective needs all of them on every rank.

        Raises:
            EntryError: says what to set.
        """
        if sharding != "none" and not cls.shards:
            raise EntryError(f"objective {cls.__name__.lower()} moves the codes of its books by "
                             "what all ranks saw, so every rank must hold all of them: set "
                             "sharding: none", "objective")  # fmt: skip

    def prepare(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Look at the json parts of all samples of a stage before it is trained."""

    def make_extra(self, model: Any) -> nn.Module | None:
        """Return a frozen module to compare with, such as a copy of the model as it is now.

        For its size alone the doctor asks for that of a model on the meta device.
        """
        return None

    def weights(self, documents: Documents) -> list[float]:
        """Return what each document adds to the denominator; the default: its label tokens."""
        return [float(labels) for labels in documents.labels]

    def step_counts(self, model: Any, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Count what each batch needs to know of the whole step; sums over batches and ranks."""
        return {}

    def __call__(self, model: Any, batch: dict[str, Any], count: torch.Tensor) -> Loss:
        """Return the loss of a batch, of which `step_counts` of the step may be a part.

        A pack that lost all its samples holds a filler without labels, which must cost nothing.

        Args:
            model: an omni model.
            batch: what `OmniProcessor.pack` returns, on the model's device; the documents of a
                sample, as `rendering` makes them, one after the other.
            count: the denominator, of the whole global batch.
        """
        raise NotImplementedError
