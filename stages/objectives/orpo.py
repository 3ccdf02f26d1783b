"""Preferences without a reference: odds ratios beside the chosen answer's loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn import functional as F

from omni.entry import EntryError

from .preference import Answers, Preference

LEAST = 1e-6  # nats per token: odds are infinite without


@dataclass(frozen=True)
class OrpoOptions:
    """How much the odds ratio counts beside the cross-entropy."""

    beta: float = 0.1
    """of the log-odds ratio's loss; the paper's lambda"""

    def __post_init__(self) -> None:
        if not self.beta >= 0:
            raise EntryError(f"beta is at least 0, not {self.beta!r}", "beta")


class Orpo(Preference):
    """The chosen answer's nats per token, and minus the log-sigmoid of the log-odds ratio.

    Hong et al., arXiv 2403.07691; likelihoods are means per token.
    """

    options_class = OrpoOptions
    options: OrpoOptions
    figures: ClassVar[tuple[str, ...]] = ("odds_ratio", "accuracy")

    def compare(
        self, answers: Answers, batch: Mapping[str, torch.Tensor], numbers: Mapping[str, Any]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        mean = (answers.logps / answers.labels.clamp(min=1)).clamp(max=-LEAST)  # (P, 2)
        odds = mean - torch.log1p(-mean.exp())
        ratio = odds[:, 0] - odds[:, 1]
        costs = -mean[:, 0] - self.options.beta * F.logsigmoid(ratio)
        return costs, {"odds_ratio": ratio, "accuracy": (ratio > 0).float()}
