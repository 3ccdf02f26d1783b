"""What a conversation will still earn, read off the LLM's hidden states: the critic of PPO."""

from typing import Any

import torch
from torch import nn

from ..entry import check_whole


class ValueHead(nn.Module):
    """Hidden states -> values, by a net of two layers; a new one expects nothing, exactly 0.

    Args:
        hidden_width: of the LLM's last hidden states.
        hidden: width of the layer between.
    """

    options = ("hidden",)

    def __init__(self, hidden_width: int, hidden: int = 256):
        super().__init__()
        self.norm = nn.LayerNorm(hidden_width)
        self.into = nn.Linear(hidden_width, hidden)
        self.out = nn.Linear(hidden, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @staticmethod
    def check(options: dict[str, Any]) -> None:
        """Refuse options that cannot be; raises EntryError."""
        for key, value in options.items():
            check_whole(key, value)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return the values of states, in float32: (N, D) -> (N,)."""
        states = states.to(self.out.weight.dtype)
        return self.out(nn.functional.gelu(self.into(self.norm(states))))[:, 0].float()
