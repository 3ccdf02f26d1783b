"""Episodes -> batches: packed rows with what the loss is to know of each token."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from data_shards.plan.plan import Item
from data_shards.read.batch import Batch, Row, make_batch
from data_shards.shards.shard import Entry, Part
from omni.processing.messages import assistant, media_refs, user
from omni.processing.processor import IGNORE_INDEX, Encoded

from ..objectives.policy import (
    ADVANTAGE,
    BEHAVIOUR,
    BUDGET,
    KEPT,
    REFERENCE,
    RETURN,
    TEMPERATURE,
    VALUE,
    score_labels,
)
from ..objectives.ppo import expected_values
from ..recipe.rollout import RolloutConfig
from .episode import Episode, Group

Documents = list[tuple[Row, list[Encoded]]]


class Rows:
    """Makes batches of groups.

    Args:
        processor: of the model.
        config: how the answers were drawn.
    """

    def __init__(self, processor: Any, config: RolloutConfig):
        self.processor, self.config = processor, config

    def batches(self, groups: Sequence[Group], step: int, ranks: int = 1) -> list[Batch]:
        """Pack episodes in order, a multiple of `ranks` of rows, of `max_tokens` at most each."""
        packs = [*self._packs(groups)]
        missing = -len(packs) % ranks if packs else ranks
        packs += [[] for _ in range(missing)]
        return [make_batch(self.processor, found, self.filler(), step - 1, number, 0)
                for number, found in enumerate(packs)]  # fmt: skip

    def tensors(self, groups: Sequence[Group], numbers: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return one packed row of some of the groups; of none, a row without labels."""
        documents = [self.document(groups[n], episode)
                     for n in numbers for episode in groups[n].episodes]  # fmt: skip
        return self.processor.pack(documents or self.filler())

    def _packs(self, groups: Sequence[Group]) -> Iterator[Documents]:
        pack: Documents = []
        room = self.config.max_tokens
        for number, group in enumerate(groups):
            row = self._row(group, number)
            for episode in group.episodes:
                document = self.document(group, episode)
                if pack and len(document) > room:
                    yield pack
                    pack, room = [], self.config.max_tokens
                if not pack or pack[-1][0] is not row:
                    pack.append((row, []))
                pack[-1][1].append(document)
                room -= len(document)
        if pack:
            yield pack

    def _row(self, group: Group, number: int) -> Row:
        media = (Part("media", 0, len(data)) for _, data in media_refs(group.messages))
        parts = (Part("json", 0, 0), *media)
        entry = Entry(self.config.kind, str(group.seed), 0, 0, parts)
        length = len(group.prompt)
        return Row(entry, Item(self.config.kind, number, 0, length, 0, 0), length, 0)

    def document(self, group: Group, episode: Episode) -> Encoded:
        """Return an episode with what is known of its tokens."""
        document = episode.encoded(group.prompt)
        longest = float(self.config.max_new_tokens * self.config.attempts)
        document.numbers = {TEMPERATURE: float(self.config.temperature), BUDGET: longest}
        document.by_label = {
            BEHAVIOUR: torch.tensor(episode.logps),
            ADVANTAGE: torch.tensor(episode.worth or [episode.advantage] * episode.length),
        }
        if episode.returns:
            document.by_label[VALUE] = torch.tensor(episode.values[:-1])
            document.by_label[RETURN] = torch.tensor(episode.returns)
        if episode.reference:
            document.by_label[REFERENCE] = torch.tensor(episode.reference)
        if self.config.top_p < 1:
            kept = [kept for attempt in episode.attempts for kept in attempt.kept]
            document.by_label[KEPT] = [torch.tensor(ids, dtype=torch.int32) for ids in kept]
        return document

    def filler(self, labels: bool = False) -> list[Encoded]:
        """Return a harmless conversation, by default without labels."""
        encoded = self.processor.encode([user("."), assistant(".")])
        if not labels:
            encoded.labels = torch.full_like(encoded.labels, IGNORE_INDEX)
        return [encoded]

    @torch.no_grad()
    def score(self, model: Any, groups: Sequence[Group]) -> Iterator[tuple[Episode, list[float]]]:
        """Yield the episodes with log-probabilities of their tokens under a model."""
        for episodes, row, labels in self._scored(model, groups):
            found = score_labels(model, row)[0].logps.cpu().split(labels)
            yield from zip(episodes, (values.tolist() for values in found), strict=True)

    def expect(self, model: Any, groups: Sequence[Group]) -> Iterator[tuple[Episode, list[float]]]:
        """Yield the episodes with what a model's value head expects, see `Episode.values`."""
        for episodes, row, labels in self._scored(model, groups):
            yield from zip(episodes, expected_values(model, row, labels), strict=True)

    def _scored(
        self, model: Any, groups: Sequence[Group]
    ) -> Iterator[tuple[list[Episode], dict[str, torch.Tensor], list[int]]]:
        """Yield some episodes, their row on a model's device, and how many labels each has."""
        episodes = (episode for group in groups for episode in group.episodes)
        for batch in self.batches(groups, 1):
            labels = batch.documents.labels
            row = {name: value.to(model.device) for name, value in batch.tensors.items()}
            yield [next(episodes) for _ in labels], row, labels
