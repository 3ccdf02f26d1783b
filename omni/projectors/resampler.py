"""A fixed number of tokens, whatever the size of an item."""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from ..encoders.ragged import Ragged

HEAD = 64


class Resampler(nn.Module):
    """Learned queries look at the cells of an item and at one another, `layers` times.

    The perceiver resampler of Flamingo (arXiv 2204.14198, section 3.1.1). It knows no places:
    the encoder's features are to hold them.
    """

    axes = None

    def __init__(
        self,
        input_width: int,
        output_width: int,
        queries: int = 64,
        layers: int = 2,
        heads: int = 8,
        hidden: int = 0,
    ):
        super().__init__()
        width = hidden or output_width
        self.queries = nn.Parameter(torch.randn(queries, width))
        self.cells = nn.Sequential(nn.LayerNorm(input_width), nn.Linear(input_width, width))
        self.layers = nn.ModuleList(_Layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, output_width)

    @staticmethod
    def tokens(config: dict[str, Any], grids: np.ndarray) -> np.ndarray:
        """Tell how many tokens items of these grids become: (n, axes) -> (n,)."""
        return np.full(len(grids), config["queries"])

    def forward(self, features: Ragged) -> torch.Tensor:
        """Map features to the tokens of all items, joined: (N * queries, output_width)."""
        lengths = features.cells
        cells = pad_sequence(self.cells(features.values).split(lengths), batch_first=True)
        queries = self.queries.expand(len(lengths), -1, -1)  # (N, Q, D); cells: (N, longest, D)
        own = np.arange(cells.shape[1]) < np.array(lengths)[:, None]
        own = np.pad(own, ((0, 0), (0, queries.shape[1])), constant_values=True)
        mask = torch.from_numpy(own[:, None, None]).to(cells.device, non_blocking=True)
        for layer in self.layers:
            queries = layer(queries, cells, mask)
        return self.out(self.norm(queries)).flatten(0, 1)


class _Layer(nn.Module):
    """Attention of heads of `HEAD`, whatever the width, and a feed-forward layer; pre-norm."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.cell_norm, self.query_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, heads * HEAD, bias=False)
        self.key_value = nn.Linear(width, 2 * heads * HEAD, bias=False)
        self.back = nn.Linear(heads * HEAD, width, bias=False)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(),
            nn.Linear(4 * width, width),
        )  # fmt: skip

    def forward(
        self, queries: torch.Tensor, cells: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """(N, Q, D), (N, C, D), what of C + Q may be seen (N, 1, 1, C + Q) -> (N, Q, D)."""
        asking = self.query_norm(queries)
        seen = self.key_value(torch.cat([self.cell_norm(cells), asking], dim=1))
        query, key, value = (
            t.unflatten(-1, (self.heads, HEAD)).transpose(1, 2)  # (N, heads, length, HEAD)
            for t in (self.query(asking), *seen.chunk(2, dim=-1))
        )
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        queries = queries + self.back(found.transpose(1, 2).flatten(2))
        return queries + self.mlp(queries)
