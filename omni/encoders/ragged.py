"""Features of items of any size, without padding: what encoders give and projectors take."""

from typing import NamedTuple

import numpy as np
import torch


class Ragged(NamedTuple):
    """The cells of all items, one after the other, and how many each has along its axes.

    An item is what has a grid: a picture, one of its tiles, a window of a clip.
    """

    values: torch.Tensor
    """(sum of cells, D): item by item, the last axis running fastest"""
    grids: torch.Tensor
    """(N, 1 | 2 | 3) whole numbers on the host: frames; rows, columns; frames, rows, columns"""

    @classmethod
    def of(cls, features: torch.Tensor) -> "Ragged":
        """Take items of one size, (N, *grid, D)."""
        n, *grid, _ = features.shape
        return cls(features.flatten(0, -2), torch.from_numpy(np.tile(np.array(grid), (n, 1))))

    @classmethod
    def join(cls, items: list[torch.Tensor]) -> "Ragged":
        """Take items of any size, each (*grid, D), with as many axes."""
        grids = np.array([item.shape[:-1] for item in items])
        return cls(torch.cat([item.flatten(0, -2) for item in items]), torch.from_numpy(grids))

    @classmethod
    def unpadded(cls, padded: torch.Tensor, lengths: np.ndarray) -> "Ragged":
        """Take items of one axis, (N, T, D), of which the first `lengths` (N,) are their own."""
        own = np.flatnonzero(np.arange(padded.shape[1]) < lengths[:, None])
        own = torch.from_numpy(own).to(padded.device, non_blocking=True)
        values = padded.flatten(0, 1).index_select(0, own)
        return cls(values, torch.from_numpy(lengths[:, None]))

    @property
    def cells(self) -> list[int]:
        """Return how many cells each item has."""
        return self.grids.numpy().prod(axis=1).tolist()

    def items(self) -> list[torch.Tensor]:
        """Return views of the items, each (*grid, D)."""
        values = self.values.split(self.cells)
        return [v.unflatten(0, grid) for v, grid in zip(values, self.grids.tolist(), strict=True)]
