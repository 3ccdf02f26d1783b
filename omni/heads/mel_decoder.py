"""Quantised vectors at 12.5 Hz -> log-mel frames at 100 Hz, coarse and refined."""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn

from .causal import Block, CausalConv, State, heads_of
from .mel import BINS

WINDOW = 100  # frames at 50 Hz that a layer looks back: two seconds


class Decoded(NamedTuple):
    """(B, 8 T, BINS) each."""

    coarse: torch.Tensor
    refined: torch.Tensor


class MelDecoder(nn.Module):
    """Four times as many frames, a causal transformer, twice as many, and a net that refines.

    As the audio decoder of Baichuan-Audio (arXiv 2502.17239), but causal: no frame depends on
    what follows it, so batches may be padded at their ends.
    """

    def __init__(self, width: int, hidden: int, layers: int):
        super().__init__()
        self.up4 = nn.ConvTranspose1d(width, hidden, 4, 4)
        self.blocks = nn.ModuleList(Block(hidden, heads_of(hidden), WINDOW) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        self.up2 = nn.ConvTranspose1d(hidden, hidden, 2, 2)
        self.mel = nn.Sequential(nn.GELU(), nn.Conv1d(hidden, BINS, 1))
        widths = [BINS, *[hidden] * 4, BINS]
        self.refine = nn.ModuleList(CausalConv(a, b, 5) for a, b in pairwise(widths))

    def forward(self, x: torch.Tensor, state: State | None = None) -> Decoded:
        """Decode vectors (B, T, D)."""
        x = self.up4(x.transpose(1, 2)).transpose(1, 2)
        for block in self.blocks:
            x = block(x, state)
        coarse = self.mel(self.up2(self.norm(x).transpose(1, 2)))  # (B, BINS, 8 T)
        more = coarse
        for number, conv in enumerate(self.refine):
            more = conv(more if number == 0 else torch.tanh(more), state)
        return Decoded(coarse.transpose(1, 2), (coarse + more).transpose(1, 2))
