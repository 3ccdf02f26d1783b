"""The net of the flow: noisy log-mel frames, a prior and a time -> a velocity."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .causal import Block, CausalConv, State, heads_of
from .mel import BINS

WINDOW = 64  # frames at 50 Hz that a layer looks back


class Residual(nn.Module):
    """Two convolutions around an embedded time: (B, C, T)."""

    def __init__(self, width: int, out: int, time: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(out)
        self.conv1, self.conv2 = CausalConv(width, out, 3), CausalConv(out, out, 3)
        self.time = nn.Linear(time, out)
        self.skip = nn.Conv1d(width, out, 1)

    def forward(self, x: torch.Tensor, time: torch.Tensor, state: State | None) -> torch.Tensor:
        more = self.conv1(_normed(self.norm1, x), state) + self.time(time)[:, :, None]
        return self.skip(x) + self.conv2(_normed(self.norm2, more), state)


class Unet(nn.Module):
    """One level down, some in the middle, one up; every level is a convolution and attention.

    As the decoder of Matcha-TTS (arXiv 2309.03199) and Baichuan-Audio, but causal: what is
    normalised is each frame by itself. Runs on an even number of frames.
    """

    def __init__(self, width: int, middle: int):
        super().__init__()
        self.width = width
        self.embed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width)
        )
        levels = [(2 * BINS, width), *[(width, width)] * middle, (2 * width, width)]
        self.convs = nn.ModuleList(Residual(a, b, width) for a, b in levels)
        self.blocks = nn.ModuleList(Block(width, heads_of(width), WINDOW) for _ in levels)
        self.down = CausalConv(width, width, 4, 2)
        self.up = CausalConv(width, width, 3)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, BINS)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, x: torch.Tensor, prior: torch.Tensor, time: torch.Tensor, state: State | None = None
    ) -> torch.Tensor:
        """Return a velocity at x (B, T, BINS), given a prior (B, T, BINS), at times (B,).

        It begins as none.
        """
        at = self.embed(_sinusoids(time, self.width).to(x.dtype))
        x = torch.cat([x, prior], 2).transpose(1, 2)
        x = skipped = self._level(0, x, at, state)
        x = self.down(x, state)
        for number in range(1, len(self.convs) - 1):
            x = self._level(number, x, at, state)
        x = self.up(x.repeat_interleave(2, 2), state)
        x = self._level(len(self.convs) - 1, torch.cat([x, skipped], 1), at, state)
        return self.out(self.norm(x.transpose(1, 2)))

    def _level(
        self, number: int, x: torch.Tensor, at: torch.Tensor, state: State | None
    ) -> torch.Tensor:
        x = self.convs[number](x, at, state)
        return self.blocks[number](x.transpose(1, 2), state).transpose(1, 2)


def _normed(norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return F.silu(norm(x.transpose(1, 2)).transpose(1, 2))


def _sinusoids(time: torch.Tensor, width: int) -> torch.Tensor:
    """(B,) in [0, 1] -> (B, width)."""
    steps = torch.arange(width // 2, device=time.device)
    rates = torch.exp(steps * (-math.log(10_000) / max(1, width // 2 - 1)))
    angles = 1000 * time.float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)
