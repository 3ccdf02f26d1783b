"""Proximal policy optimisation (arXiv 1707.06347): tokens against what a value head expected."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from omni.entry import EntryError
from omni.model.scores import Scores, row_states

from .base import split_numbers
from .clip import ClipOptions
from .credit import gae, whitened
from .policy import FIGURES, NUMBERS, RETURN, VALUE, Labels, Policy


@dataclass(frozen=True)
class PpoOptions(ClipOptions):
    """What a token is worth, and how its value is learnt. A value head is attached before."""

    gamma: float = 1.0
    """what a reward is worth one token earlier, above 0 and up to 1"""
    lam: float = 0.95
    """lambda of the advantage estimates (GAE, arXiv 1506.02438), 0 to 1: 1 waits for what was
    earned, 0 believes the next value"""
    whiten: bool = True
    """give the advantages of all tokens of a rollout together mean 0 and standard deviation 1"""
    value_weight: float = 0.5
    """of the squared error of the values; it moves the head alone, not the LLM"""
    value_clip: float = 0.2
    """most that a value may gain by moving away from what it was as the answer was drawn; 0: any"""
    truncated: Literal["end", "bootstrap"] = "end"
    """an answer that is cut at its longest, or a conversation without room for the next answer:
    ends with what it was paid (its budget is a part of the task), or goes on: for the cut answer
    not the verifier's reward counts but the value after its last token (bootstrap)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, fine, rule in (
            ("gamma", 0 < self.gamma <= 1, "is above 0 and at most 1"),
            ("lam", 0 <= self.lam <= 1, "is between 0 and 1"),
            ("value_weight", self.value_weight >= 0, "is at least 0"),
            ("value_clip", self.value_clip >= 0, "is at least 0"),
        ):
            if not fine:
                raise EntryError(f"{name} {rule}, not {getattr(self, name)!r}", name)


class Ppo(Policy):
    """The clipped ratio of each token times its advantage, a mean over all tokens of a step."""

    options_class = PpoOptions
    options: PpoOptions
    figures: ClassVar[tuple[str, ...]] = (*FIGURES, "value", "value.error")
    needs = ("value",)

    @property
    def unit(self) -> str:
        return "tokens"

    def judge(
        self, rewards: Sequence[Sequence[float]], values: Sequence[Sequence[float]]
    ) -> list[tuple[list[float], list[float]]]:
        """Return advantages and returns, (T,) each, of the tokens of each episode of a rollout.

        Whitening is over all of them, so that nothing depends on how a step is cut into batches.

        Args:
            rewards: of each token, (T,).
            values: see `gae`, (T + 1,).
        """
        options = self.options
        found = [torch.tensor(gae(*of, options.gamma, options.lam))
                 for of in zip(rewards, values, strict=True)]  # fmt: skip
        returns = [worth + torch.tensor([*expected[:-1]])
                   for worth, expected in zip(found, values, strict=True)]  # fmt: skip
        if options.whiten and found:
            found = whitened(found)
        return [(worth.tolist(), earned.tolist())
                for worth, earned in zip(found, returns, strict=True)]  # fmt: skip

    def costs(self, labels: Labels) -> tuple[torch.Tensor, torch.Tensor]:
        return self.options.costs((labels.logps - labels.behaviour).exp(), labels.advantages)

    def beside(
        self, model: Any, scores: Scores, batch: Mapping[str, Any], row: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        where = batch["label_positions"].flatten()
        values = _head(model)(scores.states.detach().index_select(0, where))
        nothing = values.new_zeros(1, len(where))
        before, earned = row.get(VALUE, nothing)[0], row.get(RETURN, nothing)[0]
        error = (values - earned).square()
        if clip := self.options.value_clip:
            held = before + (values - before).clamp(-clip, clip)
            cost = torch.maximum(error, (held - earned).square())
        else:
            cost = error
        return self.options.value_weight * cost, {"value": values, "value.error": error}


@torch.no_grad()
def expected_values(
    model: Any, batch: Mapping[str, Any], labels: Sequence[int]
) -> list[list[float]]:
    """Return what is expected before each label and after the last, (labels + 1,) a document.

    Args:
        model: with a value head.
        batch: a packed row on its device.
        labels: how many each document has, at least one.
    """
    inputs, _ = split_numbers(batch, NUMBERS)
    expected = _head(model)(row_states(model, inputs))
    where = batch["label_positions"].flatten()
    # the position before a label; the last label itself
    return [expected[torch.cat([places, places[-1:] + 1])].tolist()
            for places in where.split([*labels])]  # fmt: skip


def _head(model: Any) -> Any:
    return model.heads[model.head_of("value")]
