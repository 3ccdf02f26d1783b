"""An encoder that is attached must give what its config promises, before anything relies on it."""

import math
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.modules.batchnorm import _NormBase


def check_encoder(encoder: Any) -> None:
    """Encode two small media, as in training and as in evaluation.

    Raises:
        ValueError: the features are not as many or not as wide as the config promises, are not
            finite, or those of a medium depend on the other.
    """
    spec = encoder.spec
    name = spec.get("architecture") or spec.get("model_config", {}).get("model_type", "")
    who = f"encoder {spec['kind']} {name}".rstrip()
    items = [encoder.preprocess(spec, medium) for medium in _media(encoder.media)]
    batch = [encoder.collate(items)[key] for key in encoder.inputs]
    grids = [grid for item in items for grid in encoder.grids(spec, item)]
    cells = sum(math.prod(grid) for grid in grids)
    was_training = encoder.training
    # dropout draws from it, and a seed is set around this
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for training in (True, False):
            _switch(encoder, training)
            features, found = encoder(*batch)
            found = [tuple(grid) for grid in found.tolist()]
            if found != grids or tuple(features.shape) != (cells, encoder.width):
                mode = "training" if training else "evaluation"
                raise ValueError(
                    f"{who}: in {mode} its features have grids {found} and shape "
                    f"{tuple(features.shape)}, not {grids} and {(cells, encoder.width)} as its "
                    "config promises"
                )
        first = encoder(*(items[0][key] for key in encoder.inputs)).values
    encoder.train(was_training)
    if not features.isfinite().all():
        raise ValueError(
            f"{who}: {int((~features.isfinite()).sum())} of {features.numel()} features of a plain "
            f"{encoder.media} are not finite; its weights are damaged, or of another architecture"
        )
    if features.is_floating_point():
        off, most = (features[: len(first)] - first).abs().max(), 0.01 * first.abs().max()
    else:  # codes: rounding may turn one that lies between two
        off, most = (features[: len(first)] != first).float().mean(), 0.1
    if off > most:
        raise ValueError(
            f"{who}: the features of one {encoder.media} depend on what else is in its batch"
        )


def _media(kind: str) -> list[Any]:
    if kind == "audio":  # 0.32 s: a whole quantum
        return [np.sin(np.arange(5_120, dtype=np.float32) / pitch) for pitch in (5, 9)]
    gradient = Image.linear_gradient("L").convert("RGB")
    return [gradient.resize((60, 40)), gradient.resize((36, 70)).rotate(180)]


def _switch(encoder: nn.Module, training: bool) -> None:
    """Switch the mode of all but what would remember the medium."""
    encoder.train(training)
    for module in encoder.modules():
        if isinstance(module, _NormBase):
            module.eval()
