"""What a folder holds of an encoder: its tensors, and what transformers wrote of preprocessing."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn


def stored_tensors(file: Path, encoder: nn.Module) -> dict[str, torch.Tensor]:
    """Read a safetensors file; for a sketch only the header, so tensors have no values either."""
    if not is_sketch(encoder):
        return load_file(file)
    with safe_open(file, "pt") as found:
        shapes = {name: found.get_slice(name).get_shape() for name in found.keys()}  # noqa: SIM118
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def is_sketch(module: nn.Module) -> bool:
    """Tell whether a module has no values, see `omni.model.sketch`."""
    return any(parameter.is_meta for parameter in module.parameters())


def stored_preprocessing(folder: Path, part: str) -> dict[str, Any]:
    """Return the settings of a file of its own, or else of a part of the processor's; or nothing.

    Args:
        folder: of a model.
        part: "image_processor" or "feature_extractor".
    """
    own, whole = folder / "preprocessor_config.json", folder / "processor_config.json"
    if own.is_file():
        return json.loads(own.read_text())
    return json.loads(whole.read_text()).get(part) or {} if whole.is_file() else {}
