"""Tars without an index, from any URL or pipe, front to back through webdataset.

Use it for shards that you cannot index. Against the plan of an index, this is lost:

- exact resume: a resumed run sees some samples of the epoch again, and others not in it;
- a full shuffle: samples are shuffled within a buffer, held in memory;
- planned packs: lengths are unknown before decoding, so batches are a number of samples;
- equal work: each rank reads shards of its own, and whichever has more gets more samples;
- recovery: what follows a damaged tar header is lost, up to the end of that shard. It is
  reported, which webdataset itself does not do.
"""

import logging
import random
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from omni.media import MediaError
from omni.messages import MessageError
from omni.processor import PlaceholderError

from .meta import batch_meta
from .remote import RemoteError, find, is_url, open_stream, shown
from .sample import Sample, SampleError, parse
from .shard import Bad, find_shards

log = logging.getLogger(__name__)
VERSION = 1
ATTEMPTS = 4


class UnindexedStream:
    """Iterates endlessly over the samples of shards; epochs differ in order.

    Args:
        shards: paths, URLs with braces or wildcards, or `pipe:COMMAND` whose output is a tar.
        seed: of the order of shards and samples.
        rank: this process; it reads every `world_size`-th shard.
        world_size: how many processes there are.
        shuffle: samples in the shuffle buffer; 0 keeps the order.
        on_bad: called with everything that is damaged; without it that is logged.

    Raises:
        ValueError: there are fewer shards than ranks.
        FileNotFoundError, RemoteError: a pattern that matches nothing.
    """

    def __init__(
        self,
        shards: str | Path | Iterable[str | Path],
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        shuffle: int = 1000,
        on_bad: Callable[[Bad], None] | None = None,
    ):
        refs = [shards] if isinstance(shards, str | Path) else shards
        self.shards = [found for ref in refs for found in _expand(ref)]
        if len(self.shards) < world_size:
            raise ValueError(
                f"{len(self.shards)} shards without an index cannot feed {world_size} ranks; "
                "index them, or split them into more shards"
            )
        self.seed, self.rank, self.world_size, self.shuffle = seed, rank, world_size, shuffle
        self.on_bad = on_bad or (lambda bad: log.warning("skipped %s", bad))
        self.samples = self.bad = self.epoch = self.restarts = 0
        if not rank:
            log.warning(
                "%d shards are read without an index: a resumed run will NOT continue exactly "
                "(it sees some samples again and misses others), and samples are shuffled only "
                "within a buffer of %d; `omni-shards index` beside the shards mends both",
                len(self.shards), shuffle,
            )  # fmt: skip

    def __iter__(self) -> Iterator[Sample]:
        from webdataset import filters

        while True:
            before = self.samples
            rng = random.Random(f"{self.seed}:{self.epoch}:{self.restarts}")
            order = list(self.shards)
            if self.shuffle:
                rng.shuffle(order)  # the same on every rank, so that each shard has one reader
            mine = order[self.rank :: self.world_size]
            found = (sample for shard in mine for sample in self._shard(shard))
            if self.shuffle:
                start = min(100, self.shuffle)
                found = filters._shuffle(found, self.shuffle, start, rng=rng)
            for sample in found:
                self.samples += 1
                yield sample
            if self.samples == before:
                raise ValueError(f"no readable sample in {len(mine)} shards, first {mine[0]}")
            self.epoch += 1

    def batches(
        self, processor: Any, batch_size: int = 8, max_length: int | None = None
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yield (batch, state) as a `Loader` does, of `batch_size` samples each.

        What cannot be encoded, or is longer than `max_length` tokens, is reported and left out.
        """
        kept: list[tuple[Sample, Any]] = []
        for sample in self:
            try:
                encoded = processor.encode(sample.conversation())
                if max_length and len(encoded) > max_length:
                    raise MessageError(f"{len(encoded)} tokens; max_length is {max_length}")
            except (MessageError, MediaError, PlaceholderError) as error:
                self._report(sample.where.rpartition(":")[0], sample.key, 0, str(error))
                continue
            kept.append((sample, encoded))
            if len(kept) == batch_size:
                documents = [encoded for _, encoded in kept]
                batch = processor.pack(documents)
                batch["meta"] = {
                    "keys": [sample.where for sample, _ in kept],
                    **batch_meta(batch, documents, processor.modalities),
                }
                kept = []
                yield batch, self.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """Return where the stream is, as nearly as can be told."""
        return {
            "version": VERSION, "exact": False, "epoch": self.epoch, "samples": self.samples,
            "restarts": self.restarts,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin the epoch of `state` anew, in another order, and say so."""
        if state.get("version") != VERSION or state.get("exact") is not False:
            raise ValueError(
                "this is no state of shards without an index: 'version' is "
                f"{state.get('version')!r}, 'exact' {state.get('exact')!r}"
            )
        self.epoch, self.samples = state["epoch"], state["samples"]
        self.restarts = state["restarts"] + 1
        log.warning(
            "resumed without an index after %d samples: epoch %d begins again in another order",
            self.samples, self.epoch,
        )  # fmt: skip

    def _shard(self, shard: str) -> Iterator[Sample]:
        """Yield the samples of one shard; a broken connection goes on where it was."""
        done = 0
        for attempt in range(1, ATTEMPTS + 1):
            try:
                for number, members in enumerate(self._read(shard, report=not done)):
                    if number < done:
                        continue
                    done += 1
                    key = str(members.pop("__key__"))
                    try:
                        parts = {n: d for n, d in members.items() if not n.startswith("__")}
                        yield parse(key, parts, f"{_name(shard)}:{key}")
                    except (SampleError, MessageError) as error:
                        self._report(_name(shard), key, 0, str(error))
                return
            except tarfile.TarError as error:
                self._report(_name(shard), "", 0, f"{error}; the rest of the shard is lost")
                return
            except Exception as error:
                if attempt == ATTEMPTS or not is_url(shard):
                    raise RemoteError(shard, f"{error} (after {done} samples)") from error
                log.warning("%s: %s after %d samples; again", shown(shard), error, done)

    def _read(self, shard: str, report: bool) -> Iterator[dict[str, Any]]:
        """Yield {part: bytes} of each sample, grouped as webdataset does."""
        from webdataset.tariterators import group_by_keys

        def handler(error: Exception) -> bool:
            if report:
                self._report(_name(shard), "", 0, str(error.args[0]))
            return True

        with closing(_open(shard)) as stream:
            damage: list[tarfile.TarError] = []
            files = (
                {"fname": name, "data": data, "__url__": shard}
                for name, data in _members(stream, damage)
            )
            yield from group_by_keys(files, lcase=False, handler=handler)
            if damage:  # not before, because the sample ahead of it may be whole
                raise damage[0]

    def _report(self, shard: str, key: str, offset: int, reason: str) -> None:
        self.bad += 1
        self.on_bad(Bad(shard, key, offset, reason))


def _members(stream: Any, damage: list[tarfile.TarError]) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) of the files of a tar up to where it is damaged."""
    try:
        with tarfile.open(fileobj=stream, mode="r|*") as archive:
            for member in archive:
                if file := archive.extractfile(member):
                    yield member.name, file.read()
                archive.members.clear()  # or they pile up
            # the reader takes a bad header for the end of the archive
            lost = 0
            while piece := archive.fileobj.read(1 << 20):  # type: ignore[union-attr]
                lost += len(piece) if lost else len(piece.lstrip(b"\0"))
            if lost:
                raise tarfile.ReadError(f"a bad header before the last {lost:,} bytes")
    except tarfile.TarError as error:
        damage.append(error)


def _expand(ref: str | Path) -> list[str]:
    text = str(ref)
    if text.startswith("pipe:") or text == "-":
        return [text]
    return find(text) if is_url(ref) else [str(path) for path in find_shards(ref)]


def _open(shard: str) -> Any:
    if is_url(shard):
        return open_stream(shard)
    from webdataset.gopen import gopen

    return gopen(shard)


def _name(shard: str) -> str:
    return shown(shard).rpartition("/")[2] if not shard.startswith("pipe:") else shard
