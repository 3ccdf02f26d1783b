"""Encoder space -> LLM space. Adding a projector is one class and one line in PROJECTORS."""

import inspect
from typing import Any

import numpy as np
from torch import nn

from ..entry import EntryError
from ..nearest import nearest
from .mlp import FrameConcatMlp, PatchConcatMlp

PROJECTORS: dict[str, type[nn.Module]] = {
    "patch_concat_mlp": PatchConcatMlp,
    "frame_concat_mlp": FrameConcatMlp,
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


def build_projector(config: dict[str, Any], input_width: int, output_width: int) -> nn.Module:
    """Build the projector of a completed config."""
    options = {k: v for k, v in config.items() if k != "kind"}
    return PROJECTORS[config["kind"]](input_width, output_width, **options)


def token_counts(config: dict[str, Any], grids: np.ndarray) -> np.ndarray:
    """Tell how many LLM tokens feature grids become: (n, 2) rows, columns or (n, 1) frames."""
    return np.prod(-(-grids // config["concat"]), axis=1)


def token_count(config: dict[str, Any], grid: tuple[int, ...]) -> int:
    """Tell how many LLM tokens one feature grid becomes: (rows, columns) or (frames,)."""
    return int(token_counts(config, np.array([grid]))[0])


__all__ = [
    "PROJECTORS",
    "FrameConcatMlp",
    "PatchConcatMlp",
    "build_projector",
    "complete",
    "token_count",
    "token_counts",
]
