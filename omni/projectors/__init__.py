"""Encoder space -> LLM space. Adding a projector is one class and one line in PROJECTORS.

A projector is a module `(input_width, output_width, **options)`, options being whole numbers with
a default (0 may stand for a width), with

* `axes`: how many the grids have that it takes, 1 (frames) or 2 (rows, columns); None: any;
* `tokens(config, grids)`: how many tokens items become, (n, axes) -> (n,), a static method of
  numpy arrays: `config` holds `kind` and all options;
* `forward(features)`: a `Ragged` -> the tokens of all items, joined: (sum of `tokens`,
  output_width).

The last `nn.Linear` in it makes the tokens: `attach` scales it so that they start as large as text.
One that makes them otherwise has `scale_to(deviation)`. One of codes says `takes = "codes"`, and
its `input_width` is how many codes each book has. One that learns
nothing says `learns = False`, and its tokens are as large as the features. One that others train
too says where their checkpoints have it: `stored`, pairs of prefixes and the names below them.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..encoders import encoder_class
from ..entry import EntryError
from ..nearest import nearest
from ..weights.stored import load_part, names_in
from .codes import CodeSum
from .conv_gmlp import ConvGmlp
from .linear import Identity, Linear, Mlp
from .mlp import FrameConcatMlp, PatchConcatMlp
from .pixel_shuffle import PixelShuffle
from .resampler import Resampler

PROJECTORS: dict[str, type[nn.Module]] = {
    "patch_concat_mlp": PatchConcatMlp,
    "pixel_shuffle": PixelShuffle,
    "frame_concat_mlp": FrameConcatMlp,
    "conv_gmlp": ConvGmlp,
    "resampler": Resampler,
    "linear": Linear,
    "mlp": Mlp,
    "identity": Identity,
    "codes": CodeSum,
}


def complete(config: dict[str, Any]) -> dict[str, Any]:
    """Fill in the defaults of the class that `config["kind"]` names, so that a config says all.

    Raises:
        EntryError: the kind is not registered, it takes no such option, or not such a value.
    """
    if not isinstance(kind := config.get("kind"), str) or kind not in PROJECTORS:
        hint = nearest(kind, PROJECTORS)
        raise EntryError(f"unknown projector {kind!r}; {hint}", "projector", "kind")
    parameters = inspect.signature(PROJECTORS[config["kind"]]).parameters
    options = {k: p.default for k, p in parameters.items() if p.default is not p.empty}
    for key in config:
        if key not in ("kind", *options):
            hint = nearest(key, options)
            raise EntryError(f"projector {kind!r} takes no {key!r}; {hint}", "projector", str(key))
    for key, value in config.items():
        least = min(1, options.get(key, 0))  # 0 stands for the width of the LLM
        if key != "kind" and (type(value) is not int or value < least):
            raise EntryError(
                f"projector {kind!r}: {key} is a whole number of at least {least}, not {value!r}",
                "projector", key,
            )  # fmt: skip
    return {**options, **config}


def build_projector(config: dict[str, Any], input_width: Any, output_width: int) -> nn.Module:
    """Build the projector of a completed config."""
    options = {k: v for k, v in config.items() if k != "kind"}
    return PROJECTORS[config["kind"]](input_width, output_width, **options)


def load_projector(projector: nn.Module, folder: Path, name: str) -> None:
    """Load a projector from a checkpoint of this project, or of another that trains its kind.

    Args:
        projector: with or without values.
        folder: with safetensors.
        name: of the modality, which checkpoints of this project call it by.

    Raises:
        ValueError: none of its kind is there, a tensor is missing, or has another shape.
    """
    kind = next(kind for kind, cls in PROJECTORS.items() if cls is type(projector))
    layouts = [((f"projectors.{name}.",), {}), *getattr(projector, "stored", ())]
    there = names_in(folder)
    for prefixes, called in layouts:
        if any(key.startswith(prefixes) for key in there):
            return load_part(projector, folder, prefixes, called=called)
    looked = ", ".join(prefix for prefixes, _ in layouts for prefix in prefixes)
    raise ValueError(f"{folder}: holds no projector {kind!r}: no tensor is called {looked} ...")


def token_counts(config: dict[str, Any], grids: np.ndarray) -> np.ndarray:
    """Tell how many LLM tokens items of these grids become: (n, axes) -> (n,)."""
    return PROJECTORS[config["kind"]].tokens(config, grids)  # type: ignore[attr-defined]


def item_lengths(modality: dict[str, Any], tensors: Mapping[str, torch.Tensor]) -> list[int]:
    """Tell how many LLM tokens each item of a modality's media tensors becomes.

    Args:
        modality: an entry of `OmniConfig.modalities`.
        tensors: by the names of its encoder's `inputs`; of one medium or of a batch.
    """
    grids = encoder_class(modality["encoder"]).grids(modality["encoder"], tensors)
    return token_counts(modality["projector"], np.array(grids)).tolist()


__all__ = [
    "PROJECTORS",
    "FrameConcatMlp",
    "PatchConcatMlp",
    "build_projector",
    "complete",
    "item_lengths",
    "load_projector",
    "token_counts",
]
