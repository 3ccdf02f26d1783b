"""LayerNorm -> concatenation of neighbours -> two-layer MLP."""

import torch
from torch import nn
from torch.nn import functional as F


def _mlp(concatenated: int, hidden: int, output_width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(concatenated, hidden), nn.GELU(), nn.Linear(hidden, output_width)
    )


class PatchConcatMlp(nn.Module):
    """Fold `concat` x `concat` neighbouring patches into one token, then project.

    The visual bridge of Baichuan-Omni-1.5 (arXiv 2501.15368, section 3.2): nothing is averaged.
    """

    axes = 2

    def __init__(self, input_width: int, output_width: int, hidden: int = 0, concat: int = 2):
        super().__init__()
        self.concat = concat
        self.norm = nn.LayerNorm(input_width)
        folded = input_width * concat**2
        self.mlp = _mlp(folded, hidden or output_width, output_width)

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        """Map patch features (N, H, W, D) to tokens (N, ceil(H/c) * ceil(W/c), output_width)."""
        n, h, w, d = grid.shape
        c = self.concat
        grid = F.pad(self.norm(grid), (0, 0, 0, -w % c, 0, -h % c))
        h, w = grid.shape[1] // c, grid.shape[2] // c
        blocks = grid.view(n, h, c, w, c, d).transpose(2, 3)  # (N, h, w, c, c, D)
        return self.mlp(blocks.reshape(n, h * w, c * c * d))


class FrameConcatMlp(nn.Module):
    """Concatenate `concat` consecutive frames into one token, then project."""

    axes = 1

    def __init__(self, input_width: int, output_width: int, hidden: int = 0, concat: int = 4):
        super().__init__()
        self.concat = concat
        self.norm = nn.LayerNorm(input_width)
        folded = input_width * concat
        self.mlp = _mlp(folded, hidden or output_width, output_width)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Map frame features (N, T, D) to tokens (N, ceil(T/c), output_width)."""
        n, t, d = frames.shape
        frames = F.pad(self.norm(frames), (0, 0, 0, -t % self.concat))
        return self.mlp(frames.reshape(n, -1, self.concat * d))
