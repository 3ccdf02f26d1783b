"""A token of every cell."""

from typing import Any

import numpy as np
import torch
from torch import nn

from ..encoders.ragged import Ragged
from ..entry import EntryError


class _Cellwise(nn.Module):
    axes = None

    @staticmethod
    def tokens(config: dict[str, Any], grids: np.ndarray) -> np.ndarray:
        """Tell how many tokens items of these grids become: (n, axes) -> (n,)."""
        return np.prod(grids, axis=1)


class Identity(_Cellwise):
    """The features are the tokens, of an encoder as wide as the LLM; nothing is learned here."""

    learns = False

    def __init__(self, input_width: int, output_width: int):
        super().__init__()
        if input_width != output_width:
            raise EntryError(
                f"projector 'identity': the encoder's features are {input_width} wide and the "
                f"LLM's tokens {output_width}; use linear", "projector", "kind",
            )  # fmt: skip

    def forward(self, features: Ragged) -> torch.Tensor:
        """Return the tokens of all items, joined: (sum of cells, output_width)."""
        return features.values


class Mlp(_Cellwise):
    """Two linear layers with a GELU between them, as in LLaVA-1.5 (arXiv 2310.03744)."""

    stored = (
        (("multi_modal_projector.", "model.multi_modal_projector."),
         {"mlp.0": "linear_1", "mlp.2": "linear_2"}),
    )  # fmt: skip

    def __init__(self, input_width: int, output_width: int, hidden: int = 0):
        super().__init__()
        hidden = hidden or output_width
        self.mlp = nn.Sequential(
            nn.Linear(input_width, hidden), nn.GELU(), nn.Linear(hidden, output_width)
        )

    def forward(self, features: Ragged) -> torch.Tensor:
        """Map features to the tokens of all items, joined: (sum of cells, output_width)."""
        return self.mlp(features.values)


class Linear(_Cellwise):
    """One linear layer, as in LLaVA (arXiv 2304.08485) and Qwen2-Audio (arXiv 2407.10759)."""

    def __init__(self, input_width: int, output_width: int):
        super().__init__()
        self.out = nn.Linear(input_width, output_width)

    def forward(self, features: Ragged) -> torch.Tensor:
        """Map features to the tokens of all items, joined: (sum of cells, output_width)."""
        return self.out(features.values)
