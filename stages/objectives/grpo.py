"""Group-relative policy optimisation (arXiv 2402.03300), and what is said of its loss since."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from .clip import ClipOptions
from .credit import group_advantages
from .policy import Labels, Policy

UNITS = {"grpo": "answers", "gspo": "answers", "dapo": "tokens", "bnpo": "tokens",
         "dr_grpo": "budget"}  # fmt: skip


@dataclass(frozen=True)
class GrpoOptions(ClipOptions):
    """How an answer that earns more than others to its prompt is made more likely."""

    loss: Literal["grpo", "dr_grpo", "dapo", "gspo", "bnpo"] = "grpo"
    """a mean over answers of the mean over their tokens (grpo); with the ratio of whole answers
    (gspo, arXiv 2507.18071); a mean over all tokens of a step (dapo, 2503.14476, and bnpo, since
    it does not matter here how a step is cut); over all tokens that the answers could have had
    (dr_grpo, 2503.20783)"""
    advantage: Literal["std", "none", "batch"] = "std"
    """what a reward less the mean of its group is divided by: the group's standard deviation,
    nothing (dr_grpo), or that of the rollout"""


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
        logs = labels.logps - labels.behaviour
        if self.options.loss == "gspo":
            logs = labels.mean(logs)
        return self.options.costs(logs.exp(), labels.advantages)
