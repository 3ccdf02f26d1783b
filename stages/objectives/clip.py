"""The clipped surrogate of PPO (arXiv 1707.06347), which `grpo` and `ppo` share."""

from dataclasses import dataclass

import torch

from omni.entry import EntryError

from .policy import PolicyOptions


@dataclass(frozen=True)
class ClipOptions(PolicyOptions):
    """How far a token may become more or less likely before it stops to count."""

    clip: float = 0.2
    """how far below 1 the ratio of a token, now to as it was drawn, makes a difference"""
    clip_high: float = 0.0
    """how far above 1 (dapo: 0.28); 0: as clip"""
    dual_clip: float = 0.0
    """most that a token of a bad answer may cost, in advantages (arXiv 1912.09729); 0: any"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, fine, rule in (
            ("clip", 0 < self.clip < 1, "is above 0 and below 1"),
            ("clip_high", self.clip_high >= 0, "is at least 0"),
            ("dual_clip", self.dual_clip == 0 or self.dual_clip > 1, "is above 1, or 0 for none"),
        ):
            if not fine:
                raise EntryError(f"{name} {rule}, not {getattr(self, name)!r}", name)

    def costs(
        self, ratio: torch.Tensor, advantages: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what tokens cost, (N,), and which of them are clipped, (N,)."""
        return clipped_costs(
            ratio, advantages, self.clip, self.clip_high or self.clip, self.dual_clip
        )


def clipped_costs(
    ratio: torch.Tensor, advantage: torch.Tensor, low: float, high: float, dual: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what tokens cost, (N,), and which of them are clipped, (N,).

    Args:
        ratio: of the probability now to that as it was drawn, (N,).
        advantage: of each token, (N,).
        low: how far below 1 the ratio makes a difference.
        high: how far above 1.
        dual: most that a token of a bad answer costs, in advantages; 0: any.
    """
    free = -ratio * advantage
    held = -ratio.clamp(1 - low, 1 + high) * advantage
    cost = torch.maximum(free, held)
    if dual:
        cost = torch.where(advantage < 0, torch.minimum(cost, -dual * advantage), cost)
    return cost, cost.detach() != free.detach()
