"""Pretrained encoders. Adding one is one class and one line in ENCODERS.

An encoder class says which message part it reads (`media`), what a recipe may set (`options`),
which tensors it takes (`inputs`), how a file becomes those tensors (`preprocess`, `collate`),
and how many features come out (`grids`) - the last three without weights, so that data can be
tokenised alone. `grids_of(config, facts)` tells the same grids of many files by their facts
alone, an array with the fields of `omni.media.facts.Facts`: it returns the file of each grid, (G,),
and the grids, (G, 2) or (G, 1). So data can be planned without decoding any.
"""

from typing import Any

from torch import nn

from ..entry import EntryError
from ..nearest import nearest
from .audio import WhisperEncoder
from .check import check_encoder
from .open_clip import OpenClipEncoder
from .timm import TimmEncoder
from .transformers import TransformersEncoder

ENCODERS: dict[str, type[nn.Module]] = {
    "timm": TimmEncoder,
    "open_clip": OpenClipEncoder,
    "transformers": TransformersEncoder,
    "whisper": WhisperEncoder,
}

LENGTHS = frozenset(name for cls in ENCODERS.values() for name in cls.inputs[1:])  # type: ignore
"""inputs after the first say how long items are: the host reads them, so they stay with it"""


def encoder_class(config: dict[str, Any]) -> Any:
    """Look up the class that `config["kind"]` names.

    Raises:
        EntryError: the kind is not registered.
    """
    if not isinstance(kind := config.get("kind"), str) or kind not in ENCODERS:
        raise EntryError(f"unknown encoder {kind!r}; {nearest(kind, ENCODERS)}", "encoder", "kind")
    return ENCODERS[kind]


def build_encoder(config: dict[str, Any]) -> nn.Module:
    """Build the encoder with random weights; `config`, kept as `spec`, holds its arguments."""
    encoder = encoder_class(config)(**{k: v for k, v in config.items() if k != "kind"})
    encoder.spec = config
    return encoder


__all__ = ["ENCODERS", "LENGTHS", "build_encoder", "check_encoder", "encoder_class"]
