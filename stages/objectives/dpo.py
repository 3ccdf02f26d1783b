"""Direct preference optimisation (arXiv 2305.18290), and what is said of its loss since."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional as F

from omni.entry import EntryError

from .base import frozen_copy
from .preference import REFERENCE, Answers, Preference, answers_of

FIGURES = ("rewards.chosen", "rewards.rejected", "rewards.margin", "rewards.accuracy",
           "logps.chosen", "logps.rejected")  # fmt: skip


@dataclass(frozen=True)
class DpoOptions:
    """How the log-ratios of two answers to the reference make a loss."""

    beta: float = 0.1
    """of the rewards, which are beta times the log-ratio: how far the model may go from the
    reference; of ipo the tau in its target 1 / (2 tau)"""
    loss: Literal["sigmoid", "ipo", "hinge", "robust"] = "sigmoid"
    """sigmoid; ipo (arXiv 2310.12036), of log-ratios per token; hinge (2305.10425); robust
    (2403.00409), unbiased where the share label_smoothing of the pairs is the wrong way round"""
    label_smoothing: float = 0.0
    """the share of pairs that may be the wrong way round, of sigmoid and robust; below 0.5"""
    sft_weight: float = 0.0
    """of the chosen answer's cross-entropy in nats per token, a mean over pairs, on top"""
    length_normalised: bool = False
    """compare log-ratios per token instead of per answer, as ipo always does"""

    def __post_init__(self) -> None:
        for name, fine, rule in (
            ("beta", self.beta > 0, "is above 0"),
            ("label_smoothing", 0 <= self.label_smoothing < 0.5, "is from 0 to below 0.5"),
            ("sft_weight", self.sft_weight >= 0, "is at least 0"),
        ):
            if not fine:
                raise EntryError(f"{name} {rule}, not {getattr(self, name)!r}", name)
        if self.label_smoothing and self.loss not in ("sigmoid", "robust"):
            raise EntryError(f"label_smoothing is of sigmoid and robust, not of {self.loss}",
                             "label_smoothing")  # fmt: skip


class Dpo(Preference):
    """The chosen answer is to gain more on the reference than the rejected one.

    The reference is the model as the stage found it: its log-probabilities come with the batch,
    or a frozen copy of it runs beside the model.
    """

    options_class = DpoOptions
    options: DpoOptions
    figures: ClassVar[tuple[str, ...]] = FIGURES
    compares = True

    def make_extra(self, model: Any) -> nn.Module:
        """Return a copy of the model as it is now."""
        return frozen_copy(model)

    def compare(
        self, answers: Answers, batch: Mapping[str, torch.Tensor], numbers: Mapping[str, Any]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        options = self.options
        ratios = answers.logps - self._reference(batch, numbers)  # (P, 2)
        lengths = answers.labels.clamp(min=1)
        scores = ratios / lengths if options.length_normalised or options.loss == "ipo" else ratios
        costs = self.weigh(_losses(scores[:, 0] - scores[:, 1], options), numbers)
        if options.sft_weight:
            costs = costs - options.sft_weight * answers.logps[:, 0] / lengths[:, 0]
        chosen, rejected = (options.beta * ratios).unbind(1)
        right = (chosen > rejected).float()
        found = (chosen, rejected, chosen - rejected, right, *answers.logps.unbind(1))
        return costs, dict(zip(self.figures, found, strict=True))

    def weigh(self, losses: torch.Tensor, numbers: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the losses of pairs, (P,), as much as each of them counts."""
        return losses

    def _reference(
        self, batch: Mapping[str, torch.Tensor], numbers: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the log-probabilities of the answers under the reference, (P, 2)."""
        if REFERENCE in numbers:
            return numbers[REFERENCE]
        if self.extra is None:
            raise ValueError("the batch has no log-probabilities of the reference, and the task "
                             "was made without one")  # fmt: skip
        return reference_of(self.extra, batch).logps


def reference_of(model: Any, batch: Mapping[str, Any]) -> Answers:
    """Score the answers of a batch with a model, without a gradient."""
    with torch.no_grad():
        return answers_of(model(**batch, num_items_in_batch=1).token_losses, batch)


def _losses(delta: torch.Tensor, options: DpoOptions) -> torch.Tensor:
    """Return the loss of pairs from how much more the chosen answer gained, (P,)."""
    beta, share = options.beta, options.label_smoothing
    if options.loss == "ipo":
        return (delta - 1 / (2 * beta)).square()
    if options.loss == "hinge":
        return (1 - beta * delta).relu()
    right, wrong = -F.logsigmoid(beta * delta), -F.logsigmoid(-beta * delta)
    if options.loss == "robust":
        return ((1 - share) * right - share * wrong) / (1 - 2 * share)
    return (1 - share) * right + share * wrong
