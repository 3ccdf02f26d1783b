"""REINFORCE with the other answers to a prompt as its baseline (arXiv 2402.14740)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from .credit import leave_one_out
from .policy import Labels, Policy, PolicyOptions


@dataclass(frozen=True)
class ReinforceOptions(PolicyOptions):
    """What the reward of an answer is set against."""

    baseline: Literal["leave_one_out", "none"] = "leave_one_out"
    """the mean reward of the other answers to its prompt, or nothing"""


class Reinforce(Policy):
    """The log-probability of a whole answer times what it is worth, a mean over answers.

    In later updates of a rollout each token counts by how much more likely it has become.
    """

    options_class = ReinforceOptions
    options: ReinforceOptions

    def advantages(self, groups: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        if self.options.baseline == "none":
            return [*groups]
        return [leave_one_out(rewards) for rewards in groups]

    def costs(self, labels: Labels) -> tuple[torch.Tensor, torch.Tensor]:
        ratio = (labels.logps - labels.behaviour).exp()
        # a sum over an answer, of which `Policy` takes the mean
        cost = -ratio * labels.advantages * labels.length
        return cost, torch.zeros_like(cost)
