"""One source as an endless sequence of draws: its seeded order, and what is over-long."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .mixture import PlanConfig

if TYPE_CHECKING:
    from ..index.index import Index, Lengths

CHUNK = 1024  # rows whose lengths are looked up at once
BIG = 1 << 100  # no limit
COUNTS = ("position", "skipped", "truncated", "split")  # of a source: samples so far


class Item(NamedTuple):
    """A document of a pack: piece `piece` (0 unless it was split) of a row of a source."""

    source: str
    row: int
    piece: int
    tokens: int
    patches: int
    frames: int


class Source:
    """One source as an endless sequence of draws: epoch after epoch, each in an order of its own.

    Position p is row `order(epoch)[p - epoch * N]`; the position is all there is to remember.
    """

    def __init__(self, name: str, index: "Index", lengths: "Lengths", config: PlanConfig):
        self.name, self.lengths, self.config = name, lengths, config
        self.order = Order(name, index, config.seed, config.shuffle_shards)
        self.position = self.skipped = self.truncated = self.split = 0
        self.draws = self._draw()
        self.max_length = config.max_length or config.max_tokens or BIG
        self.max_patches, self.max_frames = config.max_patches or BIG, config.max_frames or BIG

    def counts(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in COUNTS}

    def restore(self, counts: Mapping[str, int]) -> None:
        for name in COUNTS:
            setattr(self, name, counts[name])
        self.draws = self._draw()

    def _draw(self) -> Iterator[Sequence[Item]]:
        """Yield one sample after the other, as more than one piece if it was split."""
        limit, patches, frames = self.max_length, self.max_patches, self.max_frames
        while True:
            for item in self._items(self.order.rows(self.position, CHUNK)):
                self.position += 1
                if item[3] <= limit and item[4] <= patches and item[5] <= frames:
                    yield (item,)
                elif pieces := self._cut(item):
                    yield pieces

    def _cut(self, item: Item) -> list[Item]:
        policy, media = self.config.overlong, item.patches + item.frames
        too_rich = item.patches > self.max_patches or item.frames > self.max_frames
        if policy == "skip" or too_rich:  # no pack can hold it, and a picture cannot be cut
            self.skipped += 1
            return []
        if policy == "truncate" or media:
            self.truncated += 1
            return [item._replace(tokens=self.max_length)]
        self.split += 1
        return [self.item(item.row, n) for n in range(-(-item.tokens // self.max_length))]

    def item(self, row: int, piece: int) -> Item:
        """Return a piece of a row: tokens [piece * max_length, (piece + 1) * max_length)."""
        [item] = self._items(np.array([row]))
        rest = item.tokens - piece * self.max_length
        return item._replace(piece=piece, tokens=min(rest, self.max_length))

    def _items(self, rows: np.ndarray) -> list[Item]:
        of = self.lengths
        columns = (of.tokens[rows].tolist(), of.patches[rows].tolist(), of.frames[rows].tolist())
        given = zip(repeat(self.name), rows.tolist(), repeat(0), *columns, strict=False)
        return list(map(partial(tuple.__new__, Item), given))


class Order:
    """The seeded orders of a source's rows: of all of them, or of windows of shuffled shards."""

    def __init__(self, name: str, index: "Index", seed: int, shuffle_shards: int | None):
        digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
        self.salt = int.from_bytes(digest[:8], "big")
        self.size, self.group = len(index), shuffle_shards
        if shuffle_shards:
            shard = np.asarray(index.samples["shard"])  # rows of a shard lie together
            self.starts = np.concatenate(
                [[0], np.flatnonzero(np.diff(shard)) + 1, [self.size]]
            )  # (shards + 1,)
            self.numbers = shard[self.starts[:-1]]  # of the shards that have rows
        self._epoch = self._block = -1

    def shards_from(self, position: int) -> list[int]:
        """List the shards of the window at `position` and of the next; without windows, none."""
        if not self.group:
            return []
        self.rows(position, 1)
        first = self._block * self.group
        return self.numbers[self.shards[first : first + 2 * self.group]].tolist()

    def rows(self, position: int, count: int) -> np.ndarray:
        """Return at most `count` rows from `position` on, at least one."""
        epoch, position = divmod(position, self.size)
        if epoch != self._epoch:
            self._begin(epoch)
        block = int(np.searchsorted(self.ends, position, side="right"))
        if block != self._block:
            self._block, self._rows = block, self._shuffle(epoch, block)
        start = position - (int(self.ends[block - 1]) if block else 0)
        return self._rows[start : start + count]

    def _begin(self, epoch: int) -> None:
        self._epoch, self._block, self.ends = epoch, -1, np.array([self.size])
        if self.group:
            self.shards = _permutation(self.salt, epoch, 0, len(self.starts) - 1)
            sizes = np.diff(self.starts)[self.shards]
            last = np.arange(self.group, len(sizes) + self.group, self.group).clip(max=len(sizes))
            self.ends = np.cumsum(sizes)[last - 1]  # (windows,): positions at which they end

    def _shuffle(self, epoch: int, block: int) -> np.ndarray:
        if not self.group:
            return _permutation(self.salt, epoch, 1, self.size)
        shards = self.shards[block * self.group : (block + 1) * self.group].tolist()
        rows = [np.arange(*self.starts[shard : shard + 2].tolist()) for shard in shards]
        together = np.concatenate(rows)
        return together[_permutation(self.salt, epoch, 1 + block, len(together))]


def _permutation(salt: int, epoch: int, part: int, size: int) -> np.ndarray:
    # 5. Philox's words are fixed by its definition (Salmon et al. 2011) and a stable sort has
    #    one result; the methods of numpy's Generator may change between versions.
    words = np.random.Philox(key=[salt, epoch], counter=[0, 0, 0, part]).random_raw(size)
    return np.argsort(words, kind="stable")
