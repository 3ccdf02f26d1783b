"""One linear layer."""

from typing import Any

import numpy as np
import torch
from torch import nn

from ..encoders.ragged import Ragged


class Linear(nn.Module):
    """A token of every cell, as in LLaVA (arXiv 2304.08485) and Qwen2-Audio (arXiv 2407.10759)."""

    axes = None

    def __init__(self, input_width: int, output_width: int):
        super().__init__()
        self.out = nn.Linear(input_width, output_width)

    @staticmethod
    def tokens(config: dict[str, Any], grids: np.ndarray) -> np.ndarray:
        """Tell how many tokens items of these grids become: (n, axes) -> (n,)."""
        return np.prod(grids, axis=1)

    def forward(self, features: Ragged) -> torch.Tensor:
        """Map features to the tokens of all items, joined: (sum of cells, output_width)."""
        return self.out(features.values)
