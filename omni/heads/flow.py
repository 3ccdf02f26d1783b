"""Codes -> log-mel frames by a flow: optimal-transport conditional flow matching.

Lipman et al., arXiv 2210.02747, conditioned as in CosyVoice and Baichuan-Audio: a pre-net makes a
prior of the codes, and a U-Net the velocity that takes noise to the frames. Both say what is to be
added: to the frames of the codec's own decoder, and to the velocity that leads to the prior. So a
flow is as good as that decoder before it has learnt. Causal all through, so frames can be made
while their codes are.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from ..entry import EntryError, check_whole
from .causal import Block, State, heads_of
from .mel import BINS, FRAMES_PER_CODE
from .unet import Unet

SIGMA = 1e-6  # what is left of the noise at time 1
STEPS = 10  # of Euler
GUIDANCE = 0.7
LEAST = 0.15  # of the time that is left: the last step's
DROPOUT = 0.2  # of the prior, in training, so that there is a velocity without
WINDOW = 50  # code frames that a layer of the pre-net looks back: four seconds


class FlowState(NamedTuple):
    """What a stream keeps: of the pre-net, of the U-Net at each step, and where its noise is."""

    prenet: State
    steps: list[State]
    noise: torch.Generator


class Flow(nn.Module):
    """A pre-net, a U-Net, the loss that trains them, and Euler's method.

    Args:
        width: of the quantised vectors.
        hidden: of both nets.
        layers: transformer layers of the pre-net, at 12.5 Hz.
        middle: levels of the U-Net between the one down and the one up.
    """

    options = ("hidden", "layers", "middle")

    def __init__(self, width: int, hidden: int = 256, layers: int = 4, middle: int = 4):
        super().__init__()
        self.into = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )  # fmt: skip
        self.blocks = nn.ModuleList(Block(hidden, heads_of(hidden), WINDOW) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        self.mel = nn.Linear(hidden, FRAMES_PER_CODE * BINS)
        nn.init.zeros_(self.mel.weight)
        nn.init.zeros_(self.mel.bias)
        self.unet = Unet(hidden, middle)

    @staticmethod
    def check(options: dict[str, Any]) -> None:
        """Refuse options that cannot be; raises EntryError."""
        for key, value in options.items():
            check_whole(key, value)
        if (hidden := options.get("hidden", 2)) % 2:
            raise EntryError(f"hidden is an even whole number from 1, not {hidden!r}", "hidden")

    def prior(
        self, vectors: torch.Tensor, decoded: torch.Tensor, state: State | None = None
    ) -> torch.Tensor:
        """Correct the decoder's frames: (B, T, D) and (B, 8 T, BINS) -> (B, 8 T, BINS)."""
        x = self.into(vectors)
        for block in self.blocks:
            x = block(x, state)
        more = self.mel(self.norm(x)).unflatten(2, (FRAMES_PER_CODE, BINS)).flatten(1, 2)
        return decoded + more

    def loss(
        self, prior: torch.Tensor, frames: torch.Tensor, noise: torch.Tensor, time: torch.Tensor,
        kept: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """Return the squared error of the velocity by frame: (B, T).

        Args:
            prior: (B, T, BINS)
            frames: (B, T, BINS), those that are wanted.
            noise: (B, T, BINS)
            time: (B,)
            kept: (B,), whether an item shows its prior.
        """
        at, velocity = target(frames, noise, time)
        return (self.velocity(at, prior, time, kept) - velocity).square().mean(2)

    def velocity(
        self, x: torch.Tensor, prior: torch.Tensor, time: torch.Tensor, kept: torch.Tensor,
        state: State | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Return the velocity at x (B, T, BINS); the arguments are those of `loss`."""
        shown = kept[:, None, None]
        left = (1 - time).clamp(min=LEAST)[:, None, None]
        towards = shown * (prior.detach() - x) / left
        return towards + self.unet(x, prior * shown, time, state)

    def start(self, seed: int = 0) -> FlowState:
        """Return the state of a stream that has made nothing yet."""
        noise = torch.Generator().manual_seed(seed)
        return FlowState({}, [{} for _ in range(STEPS)], noise)

    @torch.no_grad()
    def frames(
        self, vectors: torch.Tensor, decoded: torch.Tensor, state: FlowState
    ) -> torch.Tensor:
        """Make the next frames: (T, D) and (8 T, BINS) -> (8 T, BINS), for any T; `state` goes on.

        The noise of a code frame depends on the seed and on how many were before it alone.
        """
        prior = self.prior(vectors[None], decoded[None], state.prenet)
        noise = [torch.randn(FRAMES_PER_CODE, BINS, generator=state.noise) for _ in vectors]
        x = torch.cat(noise)[None].to(prior)
        both, shows = prior.expand(2, -1, -1), torch.tensor([1.0, 0.0]).to(prior)
        grid = time_grid(STEPS)
        for kept, now, then in zip(state.steps, grid, grid[1:], strict=False):
            time = torch.full((2,), now, device=x.device)
            shown, hidden = self.velocity(x.expand(2, -1, -1), both, time, shows, kept)
            x = x + (then - now) * guided(shown, hidden)
        return x[0]


def target(
    frames: torch.Tensor, noise: torch.Tensor, time: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where the straight path from noise to frames is at times (B,), and its velocity."""
    t = time[:, None, None]
    return (1 - (1 - SIGMA) * t) * noise + t * frames, frames - (1 - SIGMA) * noise


def time_grid(steps: int) -> list[float]:
    """Return the times of so many steps, short ones first: 1 - cos(pi / 2 * i / steps)."""
    return [1 - math.cos(math.pi / 2 * i / steps) for i in range(steps + 1)]


def guided(shown: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Return the velocity away from the one without a prior (Ho and Salimans 2022)."""
    return (1 + GUIDANCE) * shown - GUIDANCE * hidden


def prior_error(prior: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """Return the error of the pre-net by frame: (B, T)."""
    return F.mse_loss(prior, frames, reduction="none").mean(2)
