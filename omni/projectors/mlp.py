"""LayerNorm -> concatenation of neighbours -> two-layer MLP."""

from typing import Any

import numpy as np
import torch
from torch import nn

from ..encoders.ragged import Ragged
from .fold import blocks, fold


def _mlp(concatenated: int, hidden: int, output_width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(concatenated, hidden), nn.GELU(), nn.Linear(hidden, output_width)
    )


class _ConcatMlp(nn.Module):
    """Fold blocks of `concat` neighbours along every axis into one token, then project.

    What a block lacks at an item's end is zero.
    """

    axes: int

    def __init__(self, input_width: int, output_width: int, hidden: int, concat: int):
        super().__init__()
        self.concat = concat
        self.norm = nn.LayerNorm(input_width)
        folded = input_width * concat**self.axes
        self.mlp = _mlp(folded, hidden or output_width, output_width)

    @staticmethod
    def tokens(config: dict[str, Any], grids: np.ndarray) -> np.ndarray:
        """Tell how many tokens items of these grids become: (n, axes) -> (n,)."""
        return blocks(grids, config["concat"])

    def forward(self, features: Ragged) -> torch.Tensor:
        """Map features to the tokens of all items, joined: (sum L, output_width)."""
        return self.mlp(fold(self.norm(features.values), features.grids.numpy(), self.concat))


class PatchConcatMlp(_ConcatMlp):
    """Fold `concat` x `concat` neighbouring patches into one token, then project.

    The visual bridge of Baichuan-Omni-1.5 (arXiv 2501.15368, section 3.2): nothing is averaged.
    """

    axes = 2
    stored = ((("visual.merger.", "model.visual.merger."), {"norm": "ln_q"}),)  # Qwen2-VL

    def __init__(self, input_width: int, output_width: int, hidden: int = 0, concat: int = 2):
        super().__init__(input_width, output_width, hidden, concat)


class FrameConcatMlp(_ConcatMlp):
    """Concatenate `concat` consecutive frames into one token, then project."""

    axes = 1

    def __init__(self, input_width: int, output_width: int, hidden: int = 0, concat: int = 4):
        super().__init__(input_width, output_width, hidden, concat)
