"""Plan + reader + processor -> (batch, state): what a rank trains on, and where it stands."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from omni.encoders import readers
from omni.processing.messages import assistant, user
from omni.processing.processor import IGNORE_INDEX, Encoded

from ..plan.plan import Item, Pack, Plan, Snapshot, check_ranks, deal
from ..shards.rendering import CONVERSATION, Rendering
from ..shards.shard import Bad
from .ahead import Ahead
from .batch import Batch, Row, make_batch, rows_of
from .encode import Encode, Processor, check_overlong
from .quarantine import Counts, Quarantine, check_modalities
from .reader import Reader, bad_at

log = logging.getLogger(__name__)
VERSION = 2


class Known(Protocol):
    """What is known of samples besides what their files hold, such as what they score."""

    names: tuple[str, ...]

    def __call__(self, row: Row, /) -> Sequence[Mapping[str, float]] | None:
        """Return the numbers of each document of a sample by those names, None if it has none."""
        ...


class _Batch(NamedTuple):
    """A pack on its way, and the state once it was handed out: see `Loader.state_dict`."""

    step: int
    pack: Pack
    rows: list[Row]
    state: Snapshot | Mapping[str, Any]
    taken: list[list[int]]


class Loader:
    """Iterate endlessly over (batch, state) for one rank, one pack a batch.

    A step is `packs_per_step / world_size` batches of every rank; which packs are whose, every
    rank works out for itself. A bad sample is counted, written to `quarantine`, and leaves its
    place in the pack empty; nothing else moves. So neither threads, nor prefetching, nor a
    resume, nor another number of ranks changes the samples of any step.

    Args:
        plan: over indices of shards.
        processor: makes tensors of conversations.
        rendering: which conversations a sample becomes.
        rank: of `world_size`, which must divide the packs of a step.
        quarantine: a jsonl file: source, key, shard, offset, reason, pack.
        max_bad_share: of the samples of this rank, checked from ten bad ones on.
        max_bad_run: bad samples one after the other.
        reading: options of `Reader`: workers, prefetch_bytes, timeout, retries.

    Raises (while iterating):
        TooManyBad: more bad samples than that, or the first `quarantine.FEW` of a modality.
    """

    def __init__(
        self,
        plan: Plan,
        processor: Processor,
        rank: int = 0,
        world_size: int = 1,
        quarantine: Path | str | None = None,
        max_bad_share: float = 0.05,
        max_bad_run: int = 32,
        rendering: Rendering = CONVERSATION,
        **reading: Any,
    ):
        if not 0 <= rank < world_size:
            raise ValueError(f"need 0 <= rank < world_size, not {rank=}, {world_size=}")
        check_ranks(plan.config, world_size)
        check_overlong(plan.config, rendering)
        self.plan, self.processor, self.rank, self.world_size = plan, processor, rank, world_size
        self._rendering = rendering
        self.known: Known | None = None  # set it before iterating; a sample without is a bad one
        self.reader: Reader[_Batch] = Reader(
            Encode(processor, rendering), _bytes, prepare=Ahead.wait, **reading
        )
        self._state: Snapshot | Mapping[str, Any] = plan.start()
        self._taken: list[list[int]] = []
        self._quarantine = Quarantine(quarantine)
        listed = str(self._quarantine.path or "the log")
        self.counts = Counts(max_bad_share, max_bad_run, listed)
        media = {"image": "image", "video": "image", "audio": "audio"}  # by kind of file
        self._modalities = {k: [*readers(processor.modalities, m)] for k, m in media.items()}
        self._excluded: dict[tuple[str, str], tuple[int, str]] = {}
        if rank == 0:
            self._announce()

    @property
    def per_step(self) -> int:
        """Return the batches of this rank in a step."""
        return self.plan.config.packs_per_step // self.world_size

    def _announce(self) -> None:
        """Tell what the indices found damaged and what the plan will not use as it is."""
        for name in self.plan.names:
            index = self.plan.sources[name]
            if index.bad:
                log.warning("%s: %d damaged places, the first: %s", name, len(index.bad),
                            index.bad[0])  # fmt: skip
            for bad in index.bad:
                self._quarantine.add(bad, name, None)
            if not self._modalities["audio"] and (unheard := index.sounding()):
                log.warning("%s: %d videos have sound, which no modality reads: their frames are "
                            "shown alone", name, unheard)  # fmt: skip
            for fate, rows in self.plan.fates(name).items():
                if len(rows):
                    first = index.entry(int(rows[0])).where
                    tokens = self.plan.lengths[name].tokens[rows[0]]
                    log.warning(
                        "%s: %d of %d samples are over-long and will be %s, the first: %s with "
                        "%d tokens", name, len(rows), len(index), fate, first, tokens,
                    )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Return the state after the last batch that was handed out: json of under 16 kB.

        It is the plan's state before the step under way, and what was `taken` of that step:
        pairs of a number of ranks and the packs that each of them took.
        """
        return {
            "version": VERSION, "plan": self._plan_state(), "taken": self._taken,
            **self.counts.state(),
        }  # fmt: skip

    def _plan_state(self) -> Mapping[str, Any]:
        return self._state.state() if isinstance(self._state, Snapshot) else self._state

    def overlong(self) -> dict[str, int]:
        """Count what was skipped, truncated and split so far, by "source.fate", over all ranks."""
        sources = self._plan_state()["sources"].items()
        fates = ("skipped", "truncated", "split")
        return {f"{name}.{fate}": c[fate] for name, c in sources for fate in fates if c[fate]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; threads may differ, and so may the number of ranks.

        Raises:
            ValueError: names the field in which the plan of the state differs from this one, or
                says that the rest of its step cannot be assigned to so many ranks.
        """
        if state.get("version") != VERSION:
            raise ValueError(
                f"cannot resume the data: 'version' was {state.get('version')!r} in the "
                f"checkpoint and is {VERSION} now; start the stage anew"
            )
        self.plan.check(state["plan"])
        count = self.plan.config.packs_per_step
        self._rest([Pack(n, [], 0, 0.0) for n in range(count)], state["taken"])
        self._state, self._taken = state["plan"], [list(pair) for pair in state["taken"]]
        self.counts.load(state)

    def _rest(self, packs: Sequence[Pack], taken: Sequence[Sequence[int]]) -> list[Pack]:
        # 10. Who took what of a step follows from the plan, the numbers of ranks and how many
        #     packs each took; so any other ranks can share the rest, and none is read twice.
        for ranks, count in taken:
            packs = [pack for hand in deal(packs, ranks) for pack in hand[count:]]
        return deal(packs, self.world_size)[self.rank]

    def __iter__(self) -> Iterator[tuple[Batch, dict[str, Any]]]:
        jobs = ((batch, batch.rows) for batch in self._batches())
        for batch, found in self.reader.run(jobs):
            yield self.collate(batch, found), self.state_dict()

    def _batches(self) -> Iterator[_Batch]:
        """Plan this rank's packs, from the state on."""
        before, taken = self._state, self._taken
        ahead = Ahead(self.plan)
        ahead.follow(before)
        for step in self.plan.steps(self._plan_state()):
            mine = self._rest(step.packs, taken)
            for count, pack in enumerate(mine, 1):
                last = count == len(mine)
                now = [] if last else [*taken, [self.world_size, count]]
                yield _Batch(
                    step.number,
                    pack,
                    rows_of(self.plan, pack),
                    step.after if last else before,
                    now,
                )
            before, taken = step.after, []
            ahead.follow(before)

    def collate(self, batch: _Batch, found: list[list[Encoded] | Bad]) -> Batch:
        """Make a batch of what the reader found, and take it for handed out."""
        both = [(r, self._told(r, result)) for r, result in zip(batch.rows, found, strict=True)]
        for row, result in both:
            self._count(row.item, result, batch.pack.number)
        self._state, self._taken = batch.state, batch.taken
        good = [(row, e) for row, e in both if not isinstance(e, Bad)]
        return self._join(batch.step, batch.pack.number, good, len(found) - len(good))

    def _told(self, row: Row, found: list[Encoded] | Bad) -> list[Encoded] | Bad:
        """Add to the documents of a sample what is known of it besides."""
        if self.known is None or isinstance(found, Bad):
            return found
        numbers = self.known(row)
        if numbers is None:
            return bad_at(row.entry, f"it has no {', '.join(self.known.names)}")
        for document, more in zip(found, numbers, strict=True):
            document.numbers |= more
        return found

    def _join(
        self, step: int, pack: int, found: list[tuple[Row, list[Encoded]]], lost: int
    ) -> Batch:
        """Make a batch of what was read, but for what is excluded; `lost` could not be read."""
        good = [(r, e) for r, e in found if not self._excluded or self._admits(r, step, pack)]
        lost += len(found) - len(good)
        padding = [] if good else self.padding()
        return make_batch(self.processor, good, padding, step, pack, lost)

    def exclude(self, source: str, where: str, step: int, reason: str) -> None:
        """Leave the place of a sample ("shard:key") empty from a step of the plan on.

        11. It is counted as read and never as bad, and the step is part of the rule: so a run
            that knows of it from the start makes the batches, and keeps the state, of the run
            that found out at that step.
        """
        self._excluded[source, where] = step, reason

    def _admits(self, row: Row, step: int, pack: int) -> bool:
        source = row.item.source
        first, reason = self._excluded.get((source, row.entry.where), (step + 1, ""))
        if step >= first:
            self._quarantine.add(bad_at(row.entry, reason), source, pack)
        return step < first

    def again(self, batch: Batch) -> Batch:
        """Make a batch of this loader again, without what is excluded by now."""
        found: Any = [(row, self._told(row, self.reader.call(row))) for row in batch.rows]
        lost = int(batch.counts["quarantined"])
        return self._join(batch.step, batch.pack, found, lost)

    def pack(self, some: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Read samples again and pack them; none make a pack without labels."""
        found: Any = [self._told(row, self.reader.call(row)) for row in some]
        encoded = [document for documents in found for document in documents]
        return self.processor.pack(encoded or self.padding())

    def padding(self, labels: bool = False) -> list[Encoded]:
        """Return a harmless sample of text, by default without labels.

        That is what a pack holds that lost all its samples.
        """
        encoded = self.processor.encode([user("."), assistant(".")])
        if not labels:
            encoded.labels = torch.full_like(encoded.labels, IGNORE_INDEX)
        if self.known:
            encoded.numbers = dict.fromkeys(self.known.names, 0.0)
        return [encoded] * self._rendering.documents_per_sample

    def _count(self, item: Item, result: list[Encoded] | Bad, pack: int) -> None:
        bad = result if isinstance(result, Bad) else None
        if bad:
            self._quarantine.add(bad, item.source, pack)
        kinds = self.plan.sources[item.source].kinds(item.row)
        modalities = sorted({n for kind in kinds for n in self._modalities.get(kind) or [kind]})
        self.counts.add(item.source, modalities, bad)

    def check_modalities(self, gather: Callable[[Any], list[Any]]) -> None:
        """Make sure, once all is read, that something was learnt of every modality in the data.

        Args:
            gather: returns what every rank gives it.

        Raises:
            TooManyBad: on all ranks, whichever of them read the samples.
        """
        check_modalities(gather([self.counts.media]), self.counts.listed)


def _bytes(documents: list[Encoded]) -> int:
    """Return what the documents of a sample hold in memory."""
    held = 0
    for encoded in documents:
        held += encoded.input_ids.nbytes + encoded.labels.nbytes
        for items in encoded.media.values():
            for item in items:
                held += sum([tensor.nbytes for tensor in item.values()])
    return held
