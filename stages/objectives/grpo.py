"""Group-relative policy optimisation (arXiv 2402.03300), and what is said of its loss since."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from omni.entry import EntryError

from .credit import group_advantages
from .policy import Labels, Policy, PolicyOptions

UNITS = {"grpo": "answers", "gspo": "answers", "dapo": "tokens", "bnpo": "tokens",
         "dr_grpo": "budget"}  # fmt: skip


@dataclass(frozen=True)
class GrpoOptions(PolicyOptions):
    """How an answer that earns more than others to its prompt is made more likely."""

    loss: Literal["grpo", "dr_grpo", "dapo", "gspo", "bnpo"] = "grpo"
    """a mean over answers of the mean over their tokens (grpo); with the ratio of whole answers
    (gspo, arXiv 2507.18071); a mean over all tokens of a step (dapo, 2503.14476, and bnpo, since
    it does not matter here how a step is cut); over all tokens that the answers could have had
    (dr_grpo, 2503.20783)"""
    advantage: Literal["std", "none", "batch"] = "std"
    """what a reward less the mean of its group is divided by: the group's standard deviation,
    nothing (dr_grpo), or that of the rollout"""
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


class Grpo(Policy):
    """The clipped ratio of each token, or of each answer, times what the answer is worth."""

    options_class = GrpoOptions
    options: GrpoOptions

    @property
    def unit(self) -> str:
        return UNITS[self.options.loss]

    def advantages(self, groups: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return group_advantages(groups, self.options.advantage)

    def costs(self, labels: Labels) -> tuple[torch.Tensor, torch.Tensor]:
        options, logs = self.options, labels.logps - labels.behaviour
        if options.loss == "gspo":
            logs = labels.mean(logs)
        return clipped_costs(logs.exp(), labels.advantages, options.clip,
                             options.clip_high or options.clip, options.dual_clip)  # fmt: skip


def clipped_costs(
    ratio: torch.Tensor, advantage: torch.Tensor, low: float, high: float, dual: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what tokens cost, (N,), as in PPO (arXiv 1707.06347), and which are clipped, (N,)."""
    free = -ratio * advantage
    held = -ratio.clamp(1 - low, 1 + high) * advantage
    cost = torch.maximum(free, held)
    if dual:
        cost = torch.where(advantage < 0, torch.minimum(cost, -dual * advantage), cost)
    return cost, cost.detach() != free.detach()
