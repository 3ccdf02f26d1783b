"""Layers that see no frame after their own, so that a stream is what a whole run is.

Each takes a `State`, in which it keeps what its next frames need of the last ones. A run in chunks
of any size with one state equals a run of everything with none, but for rounding.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

State = dict[nn.Module, Any]
"""what layers keep between chunks"""


class CausalConv(nn.Module):
    """A convolution over the last `kernel` frames: (B, C, T) -> (B, out, T / stride).

    `T` is a multiple of the stride; a frame of the result sees the `stride` frames that it stands
    for and those before them.
    """

    def __init__(self, width: int, out: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__()
        self.before = kernel - stride
        self.conv = nn.Conv1d(width, out, kernel, stride, groups=groups)

    def forward(self, x: torch.Tensor, state: State | None = None) -> torch.Tensor:
        past = None if state is None else state.get(self)
        x = F.pad(x, (self.before, 0)) if past is None else torch.cat([past, x], 2)
        if state is not None:
            state[self] = x[:, :, x.shape[2] - self.before :]
        return self.conv(x)


class CausalAttention(nn.Module):
    """Attention to the last `window` frames, each of which has a learned bias: (B, T, D)."""

    def __init__(self, width: int, heads: int, window: int):
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(heads, window))  # by how long ago

    def forward(self, x: torch.Tensor, state: State | None = None) -> torch.Tensor:
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, 2)
        )  # (B, H, T, D / H)
        past = None if state is None else state.get(self)
        if past is not None:
            key, value = (torch.cat(pair, 2) for pair in zip(past, (key, value), strict=True))
        if state is not None:
            kept = max(0, key.shape[2] - self.window + 1)
            state[self] = key[:, :, kept:], value[:, :, kept:]
        mixed = F.scaled_dot_product_attention(
            query, key, value, self._mask(query.shape[2], key.shape[2])
        )
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _mask(self, queries: int, keys: int) -> torch.Tensor:
        """Return what is added to the scores of the last `queries` of so many keys: (H, Q, K)."""
        at = torch.arange(keys, device=self.bias.device)
        ago = at[keys - queries :, None] - at  # (Q, K)
        seen = (ago >= 0) & (ago < self.window)
        return self.bias[:, ago.clamp(0, self.window - 1)].masked_fill(~seen, -torch.inf)


class Block(nn.Module):
    """A transformer layer with a short convolution, which tells frames apart: (B, T, D)."""

    def __init__(self, width: int, heads: int, window: int):
        super().__init__()
        self.conv = CausalConv(width, width, 3, groups=width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = CausalAttention(width, heads, window)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor, state: State | None = None) -> torch.Tensor:
        x = x + self.conv(x.transpose(1, 2), state).transpose(1, 2)
        x = x + self.attention(self.norm1(x), state)
        return x + self.feed(self.norm2(x))


def heads_of(width: int, size: int = 64) -> int:
    """Return how many attention heads a width has: of `size` where that divides it, else one."""
    return width // size if width % size == 0 else 1
