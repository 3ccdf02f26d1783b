"""Two answers to one prompt: what objectives that compare them have in common."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from data_shards.read.batch import Documents
from data_shards.shards.rendering import PAIR

from .base import Loss, Objective, document_sums, split_numbers

REFERENCE = "reference"
"""in a batch: (1, n), log-probabilities of its documents under the model to compare with"""


class Answers(NamedTuple):
    """Of the pairs of a batch, (P, 2) each, chosen and rejected; zeros after the last pair."""

    logps: torch.Tensor
    """sums over the labels of an answer, in nats"""
    labels: torch.Tensor
    """how many those are"""


class Preference(Objective):
    """A mean over pairs. What one costs is said by `compare`."""

    rendering = PAIR

    def weights(self, documents: Documents) -> list[float]:
        return [1.0, 0.0] * documents.samples

    def compare(
        self, answers: Answers, batch: Mapping[str, torch.Tensor], numbers: Mapping[str, Any]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return what each pair costs, (P,), and its `figures`, (P,) each.

        Args:
            answers: under the model that trains.
            batch: what the model was given.
            numbers: what the batch says of its documents besides, (P, 2) each.
        """
        raise NotImplementedError

    def __call__(self, model: Any, batch: dict[str, Any], count: torch.Tensor) -> Loss:
        batch, numbers = split_numbers(batch, (REFERENCE, *self.rendering.told))
        output = model(**batch, num_items_in_batch=count)
        answers = answers_of(output.token_losses, batch)
        columns = {name: _pairs(value[0], len(answers.logps)) for name, value in numbers.items()}
        costs, figures = self.compare(answers, batch, columns)
        real = (answers.labels.sum(1) > 0).float()  # not what fills a pack
        costs = costs * real
        total = costs.sum() / count
        if output.aux_loss is not None:
            total = total + output.aux_loss * real.sum() / count
        by_document = torch.stack([costs, torch.zeros_like(costs)], 1).flatten().detach()
        sums = {name: (value.detach() * real).sum() for name, value in figures.items()}
        return Loss(total, by_document, sums)


def answers_of(nats: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> Answers:
    """Add up the losses of labels, (N,), by answer."""
    pairs = batch["position_ids"].shape[1] // 2
    labels = document_sums(torch.ones_like(nats), batch)
    return Answers(_pairs(-document_sums(nats, batch), pairs), _pairs(labels, pairs))


def _pairs(values: torch.Tensor, count: int) -> torch.Tensor:
    """Cut, or fill with zeros, what documents have one after the other: (n,) -> (count, 2)."""
    rest = values.new_zeros(max(0, 2 * count - len(values)))
    return torch.cat([values, rest])[: 2 * count].view(-1, 2)
