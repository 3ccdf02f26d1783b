"""Space to depth, then linear layers."""

from typing import Any

import numpy as np
import torch
from torch import nn

from ..encoders.ragged import Ragged
from .fold import blocks, fold


class PixelShuffle(nn.Module):
    """Fold `scale` x `scale` neighbouring patches into one token, then `layers` linear layers.

    One layer has neither norm nor bias, as the connector of Idefics3 and SmolVLM (arXiv
    2408.12637); more follow a LayerNorm of what was folded, as InternVL's (arXiv 2404.16821).
    What a block lacks at an item's end is zero.
    """

    axes = 2

    def __init__(
        self, input_width: int, output_width: int, hidden: int = 0, scale: int = 2, layers: int = 2
    ):
        super().__init__()
        self.scale = scale
        width, hidden = input_width * scale**2, hidden or output_width
        self.mlp = nn.Sequential()
        if layers > 1:
            self.mlp.append(nn.LayerNorm(width))
        for _ in range(layers - 1):
            self.mlp.extend([nn.Linear(width, hidden), nn.GELU()])
            width = hidden
        self.mlp.append(nn.Linear(width, output_width, bias=layers > 1))

    @staticmethod
    def tokens(config: dict[str, Any], grids: np.ndarray) -> np.ndarray:
        """Tell how many tokens items of these grids become: (n, 2) -> (n,)."""
        return blocks(grids, config["scale"])

    def forward(self, features: Ragged) -> torch.Tensor:
        """Map features to the tokens of all items, joined: (sum L, output_width)."""
        return self.mlp(fold(features.values, features.grids.numpy(), self.scale))
