"""LayerNorm -> concatenation of neighbours -> two-layer MLP."""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..encoders.ragged import Ragged


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
        return np.prod(-(-grids // config["concat"]), axis=1)

    def forward(self, features: Ragged) -> torch.Tensor:
        """Map features to the tokens of all items, joined: (sum L, output_width)."""
        return self.mlp(_folded(self.norm(features.values), features.grids.numpy(), self.concat))


class PatchConcatMlp(_ConcatMlp):
    """Fold `concat` x `concat` neighbouring patches into one token, then project.

    The visual bridge of Baichuan-Omni-1.5 (arXiv 2501.15368, section 3.2): nothing is averaged.
    """

    axes = 2

    def __init__(self, input_width: int, output_width: int, hidden: int = 0, concat: int = 2):
        super().__init__(input_width, output_width, hidden, concat)


class FrameConcatMlp(_ConcatMlp):
    """Concatenate `concat` consecutive frames into one token, then project."""

    axes = 1

    def __init__(self, input_width: int, output_width: int, hidden: int = 0, concat: int = 4):
        super().__init__(input_width, output_width, hidden, concat)


def _folded(values: torch.Tensor, grids: np.ndarray, c: int) -> torch.Tensor:
    """Join the cells of each block: (sum of cells, D), (N, axes) -> (sum of blocks, c^axes * D)."""
    (n, axes), width = grids.shape, values.shape[1]
    if (grids == grids[0]).all():
        sides = grids[0].tolist()
        ends = [end for side in reversed(sides) for end in (0, -side % c)]
        whole = F.pad(values.view(n, *sides, width), (0, 0, *ends))
        split = whole.view(n, *(size for side in sides for size in (-(-side // c), c)), width)
        order = (0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1)
        return split.permute(order).reshape(-1, c**axes * width)
    blocks = int(np.prod(-(-grids // c), axis=1).sum())
    places = torch.from_numpy(_places(grids, c)).to(values.device, non_blocking=True)
    joined = values.new_zeros(blocks * c**axes, width).index_copy(0, places, values)
    return joined.view(blocks, -1)


def _places(grids: np.ndarray, c: int) -> np.ndarray:
    """Return where in the blocks, all of them joined, each cell belongs: (sum of cells,)."""
    cells, folded = grids.prod(axis=1), -(-grids // c)
    blocks = folded.prod(axis=1)
    item = np.repeat(np.arange(len(grids)), cells)
    rest = np.arange(cells.sum()) - np.repeat(np.cumsum(cells) - cells, cells)
    block, within = (np.cumsum(blocks) - blocks)[item], np.zeros_like(item)
    block_stride, stride = np.ones_like(item), 1
    for axis in reversed(range(grids.shape[1])):
        rest, at = np.divmod(rest, grids[item, axis])
        block, within = block + at // c * block_stride, within + at % c * stride
        block_stride, stride = block_stride * folded[item, axis], stride * c
    return block * stride + within
