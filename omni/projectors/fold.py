"""Neighbouring cells become one, as space-to-depth does it, whatever the size of the items."""

import numpy as np
import torch
from torch.nn import functional as F


def blocks(grids: np.ndarray, c: int) -> np.ndarray:
    """Tell how many blocks of `c` cells along every axis items have: (n, axes) -> (n,)."""
    return np.prod(-(-grids // c), axis=1)


def fold(values: torch.Tensor, grids: np.ndarray, c: int) -> torch.Tensor:
    """Join the cells of each block: (sum of cells, D), (N, axes) -> (sum of blocks, c^axes * D).

    Cells lie in a block as in a grid, the last axis running fastest; what a block lacks at an
    item's end is zero.
    """
    (n, axes), width = grids.shape, values.shape[1]
    if (grids == grids[0]).all():
        sides = grids[0].tolist()
        ends = [end for side in reversed(sides) for end in (0, -side % c)]
        whole = F.pad(values.view(n, *sides, width), (0, 0, *ends))
        split = whole.view(n, *(size for side in sides for size in (-(-side // c), c)), width)
        order = (0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1)
        return split.permute(order).reshape(-1, c**axes * width)
    count = int(blocks(grids, c).sum())
    places = torch.from_numpy(_places(grids, c)).to(values.device, non_blocking=True)
    joined = values.new_zeros(count * c**axes, width).index_copy(0, places, values)
    return joined.view(count, -1)


def _places(grids: np.ndarray, c: int) -> np.ndarray:
    """Return where in the blocks, all of them joined, each cell belongs: (sum of cells,)."""
    cells, folded = grids.prod(axis=1), -(-grids // c)
    counts = folded.prod(axis=1)
    item = np.repeat(np.arange(len(grids)), cells)
    rest = np.arange(cells.sum()) - np.repeat(np.cumsum(cells) - cells, cells)
    block, within = (np.cumsum(counts) - counts)[item], np.zeros_like(item)
    block_stride, stride = np.ones_like(item), 1
    for axis in reversed(range(grids.shape[1])):
        rest, at = np.divmod(rest, grids[item, axis])
        block, within = block + at // c * block_stride, within + at % c * stride
        block_stride, stride = block_stride * folded[item, axis], stride * c
    return block * stride + within
