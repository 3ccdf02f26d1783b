"""Stream + processor -> (batch, state): encode in threads, in order, and survive bad samples."""

import itertools
import json
import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from omni.media import MediaError
from omni.messages import MessageError
from omni.processor import PlaceholderError

from .read import Bad, BadSample, read_entry
from .stream import Stream

log = logging.getLogger(__name__)
ATTEMPTS = 16
VERSION = 1


class TooManyBad(RuntimeError):  # noqa: N818 - reads as what it is
    """So many samples are bad that training on the rest would hide a broken data set."""


class Encoder(Protocol):
    """What the loader needs of a processor: messages -> tokens and media, and packing."""

    def encode(self, messages: list[dict[str, Any]]) -> Any: ...
    def pack(self, encoded: list[Any]) -> dict[str, Any]: ...


@dataclass(slots=True)
class Slot:
    """One place of a batch: the sample that fills it and the bad ones that were drawn before."""

    source: str
    where: str
    encoded: Any
    bad: list[dict[str, Any]] = field(default_factory=list)


class Loader:
    """Iterate endlessly over (batch, state) for one rank.

    A micro-batch is `batch_size` consecutive draws; rank r takes the micro-batches r,
    r + world_size, ... A bad sample is counted, written to `quarantine` and replaced within its
    slot by a stand-in that depends on the draw number only, so neither the number of threads
    nor a resume changes any batch. `state["drawn"]` counts draws over all ranks.

    Raises (while iterating):
        TooManyBad: more than `max_bad_share` of the draws, and at least ten, were bad.
    """

    def __init__(
        self,
        stream: Stream,
        processor: Encoder,
        batch_size: int = 8,
        rank: int = 0,
        world_size: int = 1,
        threads: int = 2,
        prefetch: int = 4,
        quarantine: Path | str | None = None,
        max_bad_share: float = 0.05,
        max_length: int | None = None,
    ):
        if not 0 <= rank < world_size or batch_size < 1:
            raise ValueError(
                f"need 0 <= rank < world_size and batch_size >= 1, not {rank=}, "
                f"{world_size=}, {batch_size=}"
            )
        self.stream, self.processor, self.batch_size = stream, processor, batch_size
        self.rank, self.world_size = rank, world_size
        self.threads, self.prefetch = threads, max(1, prefetch)
        self.max_bad_share, self.max_length = max_bad_share, max_length
        self.drawn = self.quarantined = 0
        self._quarantine = Quarantine(quarantine)
        if rank == 0:
            if stream.bad:
                first = stream.bad[0]
                log.warning(
                    "%d damaged places in the shards, the first: %s", len(stream.bad), first
                )
            for bad in stream.bad:
                self._quarantine.add({**asdict(bad), "draw": None})

    def state_dict(self) -> dict[str, Any]:
        """Return the state after the last batch that was handed out."""
        return {
            "version": VERSION,
            "drawn": self.drawn,
            "quarantined": self.quarantined,
            "batch_size": self.batch_size,
            "max_length": self.max_length,
            **self.stream.fingerprint(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; threads may differ, and so may the number of ranks.

        Raises:
            ValueError: names the field in which the data of the state differ from these.
        """
        for name, mine in self.state_dict().items():
            if name not in ("drawn", "quarantined") and state.get(name) != mine:
                raise ValueError(
                    f"cannot resume the data stream: {name!r} was {state.get(name)!r} in the "
                    f"checkpoint and is {mine!r} now; restore it, or start the stage anew"
                )
        if state["drawn"] % (self.batch_size * self.world_size):
            raise ValueError(
                f"cannot resume the data stream: 'drawn' is {state['drawn']}, which "
                f"{self.world_size} ranks x {self.batch_size} samples do not divide; "
                "use the number of ranks of the checkpoint"
            )
        self.drawn, self.quarantined = state["drawn"], state["quarantined"]

    def __iter__(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        per_round = self.batch_size * self.world_size
        for slots in self._batches(self.drawn // per_round):
            bad = [row for slot in slots for row in slot.bad]
            for row in bad:
                self._quarantine.add(row)
            self.drawn += per_round
            self.quarantined += len(bad)
            self._check_share()
            batch = self.processor.pack([slot.encoded for slot in slots])
            batch["meta"] = {
                "keys": [slot.where for slot in slots],
                "sources": [slot.source for slot in slots],
                "samples": len(slots),
                "tokens": sum(len(slot.encoded) for slot in slots),
                "label_tokens": int((batch["labels"] != -100).sum()),
                "quarantined": len(bad),
            }
            yield batch, self.state_dict()

    def _batches(self, first: int) -> Iterator[list[Slot]]:
        """Yield the slots of this rank's micro-batches, encoding at most `prefetch` ahead."""
        numbers = (
            range(start, start + self.batch_size)
            for start in (
                (number * self.world_size + self.rank) * self.batch_size
                for number in itertools.count(first)
            )
        )
        if not self.threads:
            for draws in numbers:
                yield [self._slot(n) for n in draws]
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="encode")
        window: deque[list[Future[Slot]]] = deque()
        try:
            while True:
                while len(window) <= self.prefetch:
                    window.append([pool.submit(self._slot, n) for n in next(numbers)])
                yield [future.result() for future in window.popleft()]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _slot(self, n: int) -> Slot:
        """Encode draw `n`, or the first usable stand-in for it."""
        bad: list[dict[str, Any]] = []
        for attempt in range(ATTEMPTS):
            entry = self.stream.entry(n, attempt)
            try:
                encoded = self.processor.encode(read_entry(entry).conversation())
                if self.max_length and len(encoded) > self.max_length:
                    raise MessageError(f"{len(encoded)} tokens; max_length is {self.max_length}")
                return Slot(self.stream.name(n), entry.where, encoded, bad)
            except BadSample as error:
                found = error.bad
            except (MessageError, MediaError, PlaceholderError) as error:
                found = Bad(Path(entry.shard).name, entry.key, entry.offset, str(error))
            bad.append({**asdict(found), "draw": n})
        raise TooManyBad(
            f"source {self.stream.name(n)!r}: {ATTEMPTS} samples in a row are bad, "
            f"the last: {found}"
        )

    def _check_share(self) -> None:
        mine = self.drawn // self.world_size
        if self.quarantined >= 10 and self.quarantined > self.max_bad_share * mine:
            raise TooManyBad(
                f"{self.quarantined} of {mine} draws were bad (limit {self.max_bad_share:.0%}); "
                f"see {self._quarantine.path or 'the quarantine file'}, mend the shards, or raise "
                "the limit"
            )


class Quarantine:
    """The list of bad samples, one json object a line; a resumed run repeats none of them."""

    def __init__(self, path: Path | str | None):
        self.path = Path(path) if path else None
        self._seen: set[tuple[Any, ...]] = set()
        if self.path and self.path.is_file():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    self._seen.add(self._place(json.loads(line)))
                except (ValueError, KeyError, TypeError):
                    continue  # the end of a line that a kill cut short

    def add(self, row: dict[str, Any]) -> None:
        """Append a row unless it is there already."""
        if not self.path or self._place(row) in self._seen:
            return
        self._seen.add(self._place(row))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    @staticmethod
    def _place(row: dict[str, Any]) -> tuple[Any, ...]:
        return (row["shard"], row["key"], row["offset"], row["draw"])
