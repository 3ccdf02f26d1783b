"""Where the loop takes its steps from: shards, through a loader; other sources fit as well."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch
from accelerate.utils import gather_object

from data_shards.read.batch import Batch, Row
from data_shards.read.loader import Loader


class Step(NamedTuple):
    """What an optimizer update is made of on this rank; steps count from 1."""

    number: int
    micro: list[Batch]
    figures: Mapping[str, float] = MappingProxyType({})
    """of how it was made, for the log"""
    warnings: Sequence[str] = ()
    """what went wrong while it was made"""
    shown: Sequence[Mapping[str, Any]] = ()
    """examples of what the model answered, for the report"""

    def keys(self) -> list[str]:
        """Return "shard:key" of each of its samples."""
        return [row.entry.where for row in self.rows()]

    def rows(self) -> list[Row]:
        """Return where all its samples lie."""
        return [row for batch in self.micro for row in batch.rows]


class Steps(Protocol):
    """The same steps on every run: whoever knows the state after one goes on with the next."""

    modalities: dict[str, Any]

    def next(self, model: Any) -> Step:
        """Return the next step; `model` is for those that are made by what is trained."""
        ...

    def subset(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Return tensors of some samples of a step; of none, a pack without labels."""
        ...

    def harmless(self) -> dict[str, torch.Tensor]:
        """Return tensors that only a model with broken weights fails on."""
        ...

    def exclude(self, source: str, where: str, step: int, reason: str) -> None:
        """Leave the place of a sample ("shard:key") empty from a step on."""
        ...

    def again(self, step: Step) -> Step:
        """Return a step without what is excluded by now."""
        ...

    def finish(self) -> dict[str, int]:
        """Return counts for the stage's totals, once all is trained; all ranks call it."""
        ...

    def close(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class LoaderSteps:
    """Steps of a loader's batches."""

    def __init__(self, loader: Loader):
        self.loader, self.modalities = loader, loader.processor.modalities
        self._batches: Iterator[Any] | None = None

    def next(self, model: Any) -> Step:
        if self._batches is None:
            self._batches = iter(self.loader)
        micro = [batch for batch, _ in islice(self._batches, self.loader.per_step)]
        return Step(micro[0].step + 1, micro)  # plans count from 0

    def subset(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        return self.loader.pack(rows)

    def harmless(self) -> dict[str, torch.Tensor]:
        return self.loader.processor.pack(self.loader.padding(labels=True))

    def exclude(self, source: str, where: str, step: int, reason: str) -> None:
        self.loader.exclude(source, where, step - 1, reason)

    def again(self, step: Step) -> Step:
        return step._replace(micro=[self.loader.again(batch) for batch in step.micro])

    def finish(self) -> dict[str, int]:
        """Raises TooManyBad where nothing was learnt of a modality that the data have."""
        self.loader.check_modalities(gather_object)
        return {f"overlong.{name}": count for name, count in self.loader.overlong().items()}

    def close(self) -> None:
        if self._batches is not None:
            self._batches.close()  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        return self.loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.loader.load_state_dict(state)
