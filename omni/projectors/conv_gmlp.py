"""A gated residual strided convolution over frames."""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..encoders.ragged import Ragged
from .fold import blocks, fold


class ConvGmlp(nn.Module):
    """Make one token of `stride` frames: norm(x + down(silu(gate(x)) * up(x))), then project.

    The audio bridge of Baichuan-Omni-1.5 (arXiv 2501.15368, section 3.3): `gate` and `up` are
    convolutions whose kernel is as long as their stride, so x is the frames of a token, joined,
    and a convolution is one matrix: (out, in, k) of `nn.Conv1d` is here (out, k * in). 4 brings
    50 Hz to 12.5 Hz. What the last token lacks is zero.
    """

    axes = 1

    def __init__(self, input_width: int, output_width: int, stride: int = 4):
        super().__init__()
        self.stride = stride
        width = input_width * stride
        self.gate = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, width, bias=False)
        self.down = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, output_width)

    @staticmethod
    def tokens(config: dict[str, Any], grids: np.ndarray) -> np.ndarray:
        """Tell how many tokens items of these grids become: (n, 1) -> (n,)."""
        return blocks(grids, config["stride"])

    def forward(self, features: Ragged) -> torch.Tensor:
        """Map features to the tokens of all items, joined: (sum L, output_width)."""
        joined = fold(features.values, features.grids.numpy(), self.stride)  # (sum L, stride * D)
        gated = F.silu(self.gate(joined)) * self.up(joined)
        return self.out(self.norm(joined + self.down(gated)))
