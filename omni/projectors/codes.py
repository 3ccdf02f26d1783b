"""Codes -> LLM tokens: each frame is the sum of its books' embeddings."""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..encoders.ragged import Ragged


class CodeSum(nn.Module):
    """A table for each book, with one row more than it has codes: the end of a clip.

    As in Baichuan-Omni-1.5 (arXiv 2501.15368). The tables are also what a depth head reads.
    """

    axes = 1
    takes = "codes"

    def __init__(self, input_width: tuple[int, ...], output_width: int):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size + 1, output_width) for size in input_width)

    @staticmethod
    def tokens(config: dict[str, Any], grids: np.ndarray) -> np.ndarray:
        """Tell how many tokens items of these grids become: (n, axes) -> (n,)."""
        return np.prod(grids, axis=1)

    @torch.no_grad()
    def scale_to(self, std: float) -> None:
        """Draw the tables anew so that a frame is as large as a token of that deviation."""
        for table in self.tables:
            nn.init.normal_(table.weight, std=std / len(self.tables) ** 0.5)  # type: ignore[arg-type]

    def embed(self, codes: torch.Tensor) -> torch.Tensor:
        """Look up codes (n, books) one by one, ends among them: (n, books, D)."""
        pairs = zip(codes.T, self.tables, strict=True)
        return torch.stack([F.embedding(c, t.weight) for c, t in pairs], 1)  # type: ignore[arg-type]

    def forward(self, features: Ragged) -> torch.Tensor:
        """Return the tokens of all items, joined: (sum of frames, output_width)."""
        return self.embed(features.values).sum(1)
