"""A model learns from answers that it drew itself: what such objectives have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import nn

from data_shards.read.batch import Documents
from omni.entry import EntryError
from omni.model.scores import Kept, Scores, answer_scores

from .base import Loss, Objective, document_sums, frozen_copy, label_documents, split_numbers

ADVANTAGE, BEHAVIOUR, REFERENCE, KEPT = "advantages", "behaviour", "reference_logps", "kept"
"""by label: its advantage; its log-probability as it was drawn, and under the model that the stage
found; what `top_p` left to draw it from"""
VALUE, RETURN = "values", "returns"
"""by label, for a critic: what was expected to be earned from there on as it was drawn, and what
was earned"""
TEMPERATURE, BUDGET = "temperature", "budget"
"""of a document: what its labels were drawn at; the most labels that it could have had"""

NUMBERS = (ADVANTAGE, BEHAVIOUR, REFERENCE, KEPT, f"{KEPT}_of", VALUE, RETURN, TEMPERATURE, BUDGET)

FIGURES = ("entropy", "kl", "kl.behaviour", "ratio.off", "clipped")


@dataclass(frozen=True)
class PolicyOptions:
    """How far the model may go, and what is made of answers that are cut."""

    kl: float = 0.0
    """of the divergence from the model as the stage found it, in nats; 0: no such model is kept"""
    kl_in: Literal["loss", "reward"] = "loss"
    """where it counts: in the loss of each token, or in the reward of an answer"""
    estimator: Literal["corrected", "k2", "k3"] = "corrected"
    """of the divergence in the loss: k3 times the live ratio, whose gradient is that of the reverse
    KL; k2, likewise as long as the answers are the model's own; k3, which follows the forward KL"""
    overlong: Literal["keep", "filter"] = "keep"
    """filter: nothing is learnt from answers that are cut at their longest"""
    overlong_cache: float = 0.0
    """the last so many tokens of the longest answer are fined, up to 1 for all (soft overlong
    punishment, arXiv 2503.14476)"""

    def __post_init__(self) -> None:
        for name in ("kl", "overlong_cache"):
            if getattr(self, name) < 0:
                raise EntryError(f"{name} is at least 0, not {getattr(self, name)!r}", name)


class Labels(NamedTuple):
    """What a loss is made of, (N,) each: the model's own tokens of a packed row."""

    logps: torch.Tensor
    """as the model would draw them now; with a gradient"""
    behaviour: torch.Tensor
    """as they were drawn"""
    advantages: torch.Tensor
    document: torch.Tensor
    """which document each is of"""
    length: torch.Tensor
    """labels of that document"""

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Give each label the mean over its document."""
        sums = torch.zeros(int(self.document.max()) + 1 if len(values) else 0, device=values.device)
        return sums.index_add(0, self.document, values)[self.document] / self.length


class Policy(Objective):
    """A policy gradient: a mean over answers or over tokens, as `unit` says."""

    options_class = PolicyOptions
    options: Any
    figures: ClassVar[tuple[str, ...]] = FIGURES
    evaluates_alone = True

    @property
    def unit(self) -> str:
        """What the loss is a mean over: answers, tokens, or the budget of all answers."""
        return "answers"

    def make_extra(self, model: Any) -> nn.Module | None:
        return frozen_copy(model) if self.options.kl else None

    def advantages(self, groups: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return what each answer of a rollout is worth, given the rewards of groups, (G,) each."""
        raise NotImplementedError

    def costs(self, labels: Labels) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what each label costs, (N,), and where a clip keeps it from counting, (N,)."""
        raise NotImplementedError

    def beside(
        self, model: Any, scores: Scores, batch: Mapping[str, Any], row: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return what each label costs besides, (N,), and figures of it, (N,) each.

        Args:
            model: that is trained.
            scores: of the labels.
            batch: with their positions.
            row: what else is known of them, by the names of `NUMBERS`.
        """
        return torch.zeros_like(scores.logps), {}

    def weights(self, documents: Documents) -> list[float]:
        if self.unit == "tokens":
            return [float(labels) for labels in documents.labels]
        if self.unit == "answers":
            return [float(labels > 0) for labels in documents.labels]
        each = documents.numbers or [{}] * len(documents)
        return [numbers.get(BUDGET, 1.0) * (labels > 0)
                for numbers, labels in zip(each, documents.labels, strict=True)]  # fmt: skip

    def __call__(self, model: Any, batch: dict[str, Any], count: torch.Tensor) -> Loss:
        scores, labels, row = score_labels(model, batch)
        cost, clipped = self.costs(labels)
        more, figures = self.beside(model, scores, batch, row)
        cost = cost + more
        logs = labels.logps - labels.behaviour
        figures |= {"entropy": scores.entropies, "kl.behaviour": divergence(-logs, "k3"),
                    "ratio.off": (logs.exp() - 1).abs(), "clipped": clipped.float()}  # fmt: skip
        away = torch.zeros_like(cost)
        if REFERENCE in row:
            away = row[REFERENCE][0] - labels.logps
            figures["kl"] = divergence(away, "k3")
            if self.options.kl_in == "loss":
                kl = divergence(away, self.options.estimator, labels.logps, labels.behaviour)
                cost = cost + self.options.kl * kl
        figures.setdefault("kl", torch.zeros_like(away))
        budget = row.get(BUDGET, cost.new_ones(1, 1))[0]
        budget = budget[labels.document] if len(budget) > 1 else budget
        # what a label counts where a document counts as much as `weights` says
        share = {"answers": 1 / labels.length, "tokens": torch.ones_like(cost),
                 "budget": budget / labels.length}[self.unit]  # fmt: skip
        each = 1 / labels.length if self.unit == "answers" else torch.ones_like(cost)
        sums = document_sums(cost * each, batch)
        total = sums.sum() / count
        if scores.aux_loss is not None:
            total = total + scores.aux_loss * share.sum() / count
        found = {name: (value.detach() * share).sum() for name, value in figures.items()}
        return Loss(total, sums.detach(), found)


def score_labels(
    model: Any, batch: Mapping[str, Any]
) -> tuple[Scores, Labels, dict[str, torch.Tensor]]:
    """Score the labels of a row as they were drawn; return with it what the row says of them."""
    inputs, row = split_numbers(batch, NUMBERS)
    document = label_documents(batch)
    warm = row.get(TEMPERATURE, torch.ones(1, 1, device=document.device))[0]
    warm = warm[document] if len(warm) > 1 else warm.expand(len(document))
    kept = Kept(row[KEPT][0], row[f"{KEPT}_of"][0]) if KEPT in row else None
    scores = answer_scores(model, inputs, warm, kept)
    nothing = scores.logps.new_zeros(1, len(document))
    length = document_sums(torch.ones_like(scores.logps), batch)[document]
    labels = Labels(scores.logps, row.get(BEHAVIOUR, nothing)[0], row.get(ADVANTAGE, nothing)[0],
                    document, length)  # fmt: skip
    return scores, labels, row


def divergence(
    away: torch.Tensor,
    estimator: str,
    logps: torch.Tensor | None = None,
    behaviour: torch.Tensor | None = None,
) -> torch.Tensor:
    """Estimate KL(model, reference) in nats from tokens that the model drew, (N,).

    See http://joschu.net/blog/kl-approx.html. The gradient of k3 is that of the forward KL, as the
    tokens themselves depend on the model; times the live ratio it is that of the reverse KL.

    Args:
        away: log-probabilities of the tokens under the reference less those under the model.
        estimator: "k2", "k3", or "corrected".
        logps: of the latter: under the model, with a gradient.
        behaviour: likewise: as they were drawn.
    """
    if estimator == "k2":
        return away.square() / 2
    k3 = away.exp() - away - 1
    if estimator == "k3" or logps is None or behaviour is None:
        return k3
    return k3 * (logps - behaviour).exp()
