"""What each step is trained on: a pure function of index hashes, lengths, config and seed.

Order (Philox) -> mix (largest deficit) -> pack (oldest first, best fit) -> deal (largest first).
Nothing is read here. Any rank computes the whole plan, so ranks never talk about data, and the
plan goes on from a few kilobytes of state. Memory: 8 bytes a row for the order of one epoch of
each source; with `shuffle_shards`, only of one window of shards.
"""

import hashlib
import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import repeat
from operator import mul
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from .index import Index, Lengths

VERSION = 2
SCALE = 1 << 32  # the weights of a step sum to it
CHUNK = 1024  # rows whose lengths are looked up at once
BIG = 1 << 100  # no limit
COUNTS = ("position", "skipped", "truncated", "split")  # of a source: samples so far
Weight = float | Mapping[int, float]


@dataclass(frozen=True)
class PlanConfig:
    """Everything that decides the plan besides the data; lengths in tokens, patches, frames."""

    mixture: Mapping[str, Weight]
    """source -> weight, or {from_step: weight}; before its first step a source is not drawn"""
    by: str = "samples"
    """what the weights are shares of: samples or tokens"""
    seed: int = 0
    packs_per_step: int = 1
    """packs of one optimizer step, over all ranks"""
    max_tokens: int | None = None
    """of a pack; None: packs are `max_samples` consecutive draws"""
    max_samples: int | None = None
    max_patches: int | None = None
    max_frames: int | None = None
    window: int = 256
    """draws among which a pack may choose; no sample waits longer"""
    max_length: int | None = None
    """of a document in tokens; default: `max_tokens`"""
    overlong: str = "skip"
    """skip, truncate, or split (documents without media; others are truncated)"""
    shuffle_shards: int | None = None
    """shuffle within windows of this many shards; None: the whole source"""
    cost: tuple[float, float, float, float] = (1.0, 1 / 12288, 0.25, 0.1)
    """in the time of one token: a token, a squared document length, a patch, a frame"""

    def __post_init__(self) -> None:
        if self.by not in ("samples", "tokens"):
            raise ValueError(f"by: {self.by!r}; use samples or tokens")
        if self.overlong not in ("skip", "truncate", "split"):
            raise ValueError(f"overlong: {self.overlong!r}; use skip, truncate or split")
        for field in fields(self):
            value = getattr(self, field.name)
            counts = field.name.startswith(("max_", "packs", "window", "shuffle"))
            if counts and value is not None and value < 1:
                raise ValueError(f"{field.name} must be at least 1, not {value}")
        if not (self.max_tokens or self.max_samples):
            raise ValueError("a pack needs a limit: set max_tokens, max_samples or both")
        if self.max_tokens and self.max_length and self.max_length > self.max_tokens:
            raise ValueError(
                f"max_length {self.max_length} does not fit into a pack of {self.max_tokens} tokens"
            )


class Item(NamedTuple):
    """A document of a pack: piece `piece` (0 unless it was split) of a row of a source."""

    source: str
    row: int
    piece: int
    tokens: int
    patches: int
    frames: int


class Pack(NamedTuple):
    """One micro-batch; `number` counts from the start of the plan, `cost` is in token times."""

    number: int
    items: list[Item]
    tokens: int
    cost: float


class Step(NamedTuple):
    """The packs of one optimizer step over all ranks, and the plan's state after it."""

    number: int
    packs: list[Pack]
    after: "Snapshot"

    @property
    def state_after(self) -> dict[str, Any]:
        """Return the state as json."""
        return self.after.state()


class Snapshot(NamedTuple):
    """Everything that decides the rest of the plan (invariant 2)."""

    step: int
    drawn: int
    credits: list[int]
    counts: list[dict[str, int]]
    items: dict[int, Item]
    identity: dict[str, Any]

    def state(self) -> dict[str, Any]:
        """Return it as json; the window is four columns: age in draws, source, row, piece."""
        names = list(self.identity["mixture"])
        window = [(self.drawn - serial, names.index(item.source), item.row, item.piece)
                  for serial, item in self.items.items()]  # fmt: skip
        return {
            "step": self.step,
            "drawn": self.drawn,
            "credits": self.credits,
            "sources": dict(zip(names, self.counts, strict=True)),
            "window": [list(column) for column in zip(*window, strict=True)],
            "plan": self.identity,
        }


class Plan:
    """Iterate over the steps of a mixture of sources, from the start or from a state."""

    def __init__(
        self, sources: Mapping[str, "Index"], config: PlanConfig, lengths: Mapping[str, "Lengths"]
    ):
        """Check that every source has something to draw.

        Raises:
            ValueError: weights that cannot be, a source missing, or one in which every sample
                is over-long.
        """
        self.config, self.sources, self.lengths = config, dict(sources), dict(lengths)
        self.names = sorted(config.mixture)
        self.schedule = _schedule(config.mixture, self.names)
        for name in self.names:
            if name not in sources:
                have = ", ".join(sources) or "none"
                raise ValueError(f"the mixture names {name!r}; there are: {have}")
            if not len(sources[name]):
                raise ValueError(f"source {name!r} holds no sample")
            if len(self.fates(name)["skipped"]) == len(sources[name]):
                raise ValueError(
                    f"source {name!r}: every one of its {len(sources[name]):,} samples is longer "
                    "than the limits; raise max_length (or the caps of a pack), or truncate"
                )
        self.identity = self._identity()

    def fates(self, name: str) -> dict[str, np.ndarray]:
        """Return the rows of a source that will be skipped, truncated and split."""
        c, of = self.config, self.lengths[name]
        limit = c.max_length or c.max_tokens or BIG
        long, media = of.tokens > limit, (of.patches > 0) | (of.frames > 0)
        rich = (of.patches > (c.max_patches or BIG)) | (of.frames > (c.max_frames or BIG))
        split = long & ~rich & ~media & (c.overlong == "split")
        truncated = long & ~rich & ~split & (c.overlong != "skip")
        skipped = (long | rich) & ~truncated & ~split
        fates = {"skipped": skipped, "truncated": truncated, "split": split}
        return {fate: np.flatnonzero(rows) for fate, rows in fates.items()}

    def _identity(self) -> dict[str, Any]:
        """Return what must stay the same for a state to mean the same samples."""
        c = self.config
        mixture = {n: w if isinstance(w, int | float) else {str(k): w[k] for k in sorted(w)}
                   for n in self.names for w in [c.mixture[n]]}  # fmt: skip
        rest = {f.name: getattr(c, f.name) for f in fields(c) if f.name not in ("mixture", "cost")}
        of = {f"index.{n}": self.sources[n].hash for n in self.names}
        of |= {f"lengths.{n}": _digest(self.lengths[n]) for n in self.names}
        return {"version": VERSION, "mixture": mixture, **rest, "cost": list(c.cost), **of}

    def check(self, state: Mapping[str, Any]) -> None:
        """Raise ValueError naming the first field in which `state` belongs to another plan."""
        then = state["plan"]
        for name in {**self.identity, **then}:
            if then.get(name) != self.identity.get(name):
                raise ValueError(
                    f"cannot resume the data: {name!r} was {then.get(name)!r} in the checkpoint "
                    f"and is {self.identity.get(name)!r} now; restore it, or start the stage anew"
                )

    def start(self) -> "Snapshot":
        """Return the state before the first step."""
        return _Planner(self).snapshot()

    def steps(self, state: Mapping[str, Any] | None = None) -> Iterator[Step]:
        """Yield the steps, without end.

        Raises:
            ValueError: `state` belongs to another plan.
        """
        planner = _Planner(self)
        if state:
            self.check(state)
            planner.restore(state)
        while True:
            yield planner.plan_step()


class _Planner:
    """The moving part of a plan."""

    def __init__(self, plan: Plan):
        self.plan, self.config = plan, plan.config
        self.sources = [
            _Source(n, plan.sources[n], plan.lengths[n], plan.config) for n in plan.names
        ]
        self.step = self.drawn = self.oldest = 0  # oldest: no undelivered draw is older
        self.credits = [0] * len(self.sources)
        self.items: dict[int, Item] = {}  # the window, by serial number of the draw
        self.sizes: list[int] = []  # the window by length, see invariant 3
        self.serials: list[int] = []
        self.draws = [source.draws for source in self.sources]
        self.active = plan.schedule[0][1]
        self.by_tokens = plan.config.by == "tokens"

    def restore(self, state: Mapping[str, Any]) -> None:
        self.step, self.drawn = state["step"], state["drawn"]
        self.credits = list(state["credits"])
        for source in self.sources:
            source.restore(state["sources"][source.name])
        for age, number, row, piece in zip(*state["window"], strict=True):
            self.items[self.drawn - age] = self.sources[number].item(row, piece)
        self.serials = sorted(self.items, key=lambda n: (self.items[n].tokens, -n))
        self.sizes = [self.items[serial].tokens for serial in self.serials]
        self.draws = [source.draws for source in self.sources]
        self.oldest = min(self.items, default=self.drawn)

    def plan_step(self) -> Step:
        # 2. What this method does depends on nothing but `Snapshot`: all else is derived from
        #    it or from the plan. A planner that was restored continues as one never stopped.
        self.active = [w for first, w in self.plan.schedule if first <= self.step][-1]
        count = self.config.packs_per_step
        first = self.step * count
        packs = [self._pack(first + i) for i in range(count)]
        self.step += 1
        return Step(self.step - 1, packs, self.snapshot())

    def snapshot(self) -> Snapshot:
        counts = [source.counts() for source in self.sources]
        return Snapshot(
            self.step, self.drawn, self.credits[:], counts, self.items.copy(), self.plan.identity
        )

    def _pack(self, number: int) -> Pack:
        c = self.config
        fill = self._fill_in_order if c.max_tokens is None else self._fill_best
        items = fill(c.max_samples or BIG, c.max_patches or BIG, c.max_frames or BIG)
        *_, tokens, patches, frames = zip(*items, strict=True)
        token, square, patch, frame = c.cost
        cost = token * sum(tokens) + square * sum(map(mul, tokens, tokens))
        cost += patch * sum(patches) + frame * sum(frames)
        return Pack(number, items, sum(tokens), cost)

    def _fill_in_order(self, samples: int, patches: int, frames: int) -> list[Item]:
        """Take consecutive draws until one does not fit; it opens the next pack."""
        items: list[Item] = []
        self._draw_until(self.oldest + samples)
        while len(items) < samples:
            item = self.items[self.oldest]
            patches, frames = patches - item.patches, frames - item.frames
            if items and (patches < 0 or frames < 0):
                break
            items.append(self.items.pop(self.oldest))
            self.oldest += 1
        self.sizes.clear()  # nobody searches them
        self.serials.clear()
        return items

    def _fill_best(self, samples: int, patches: int, frames: int) -> list[Item]:
        # 1. The oldest draw of the window always opens the next pack, and nothing is drawn more
        #    than `window` draws after it: no sample is ever passed by more draws than that.
        window, sizes, serials = self.items, self.sizes, self.serials
        room, reach = self.config.max_tokens or 0, self.config.window
        items: list[Item] = []
        self._draw_until(self.oldest + reach)
        at = bisect_left(sizes, window[self.oldest].tokens)
        at = serials.index(self.oldest, at)
        while at >= 0 and len(items) < samples:
            serial = serials.pop(at)
            del sizes[at]
            item = window.pop(serial)
            items.append(item)
            if serial == self.oldest:
                while serial < self.drawn and serial not in window:
                    serial += 1
                self.oldest = serial
                self._draw_until(serial + reach)
            room, patches, frames = room - item[3], patches - item[4], frames - item[5]
            at = bisect_right(sizes, room) - 1  # the longest that fits, if there is one
            while at >= 0:
                item = window[serials[at]]
                if item[4] <= patches and item[5] <= frames:
                    break
                at -= 1
        return items

    def _draw_until(self, count: int) -> None:
        """Draw samples into the window until `count` pieces were drawn since the start."""
        # 3. `sizes` and `serials` list the window by length, of equal lengths the oldest last
        #    (a draw goes in before its equals): there is exactly one best fit.
        # 4. Credits are whole numbers that sum to zero: each source is owed its weight for every
        #    sample (or token) drawn and pays SCALE for each of its own. No error builds up, a
        #    schedule changes only what is owed from then on, and shares hold at every prefix.
        active, credit, draws, by_tokens = self.active, self.credits, self.draws, self.by_tokens
        items, sizes, serials, drawn = self.items, self.sizes, self.serials, self.drawn
        while drawn < count:
            chosen, most = 0, -BIG
            for number, weight in active:
                credit[number] = owed = credit[number] + weight
                if owed > most:
                    chosen, most = number, owed
            credit[chosen] -= SCALE
            tokens = 0
            for item in next(draws[chosen]):
                items[drawn] = item
                size = item[3]
                at = bisect_left(sizes, size)
                sizes.insert(at, size)
                serials.insert(at, drawn)
                tokens += size
                drawn += 1
            if by_tokens:
                for number, weight in active:
                    credit[number] += weight * (tokens - 1)
                credit[chosen] -= SCALE * (tokens - 1)
        self.drawn = drawn


class _Source:
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


def check_mixture(mixture: Mapping[str, Weight]) -> None:
    """Raise ValueError if weights are wrong, or at some step none is above 0."""
    _schedule(mixture, sorted(mixture))


def _schedule(
    mixture: Mapping[str, Weight], names: Sequence[str]
) -> list[tuple[int, list[tuple[int, int]]]]:
    """Return (from_step, [(source number, whole weight)]) in order; weights sum to SCALE."""
    given = {n: w if isinstance(w, Mapping) else {0: w} for n, w in mixture.items()}
    for name, weights in given.items():
        for step, weight in weights.items():
            numbers = isinstance(step, int) and isinstance(weight, int | float)
            if not (numbers and step >= 0 and 0 <= weight < float("inf")):
                raise ValueError(f"source {name!r}: {step}: {weight} is no from_step: weight >= 0")
    schedule = []
    for first in sorted({0, *(step for weights in given.values() for step in weights)}):
        now = [max((s, w) for s, w in ((-1, 0.0), *given[n].items()) if s <= first)[1]
               for n in names]  # fmt: skip
        if not sum(now) > 0:
            raise ValueError(f"the mixture has no weight above 0 at step {first}")
        whole = [round(SCALE * w / sum(now)) for w in now]
        whole[whole.index(max(whole))] += SCALE - sum(whole)
        schedule.append((first, [(i, w) for i, w in enumerate(whole) if w]))
    return schedule


def _digest(lengths: "Lengths") -> str:
    """Hash the lengths, every one of up to four million, evenly spaced ones of more."""
    step = -(-len(lengths.tokens) // (1 << 22))
    digest = hashlib.blake2b(digest_size=8)
    for values in (lengths.tokens, lengths.patches, lengths.frames):
        digest.update(np.ascontiguousarray(values[::step], dtype="<u4").data)
    return digest.hexdigest()


def deal(packs: Sequence[Pack], ranks: int) -> list[list[Pack]]:
    """Give every rank equally many packs of nearly equal cost, largest first.

    6. It depends on nothing but its arguments, so every rank knows what the others do.

    Raises:
        ValueError: the packs cannot be shared equally.
    """
    if len(packs) % ranks:
        raise ValueError(
            f"{len(packs)} packs of a step cannot be dealt equally to {ranks} ranks: choose a "
            "number of ranks that divides them"
        )
    hands: list[list[Pack]] = [[] for _ in range(ranks)]
    loads = [(0.0, rank) for rank in range(ranks)]
    for pack in sorted(packs, key=lambda p: (-p.cost, p.number)):
        load, rank = heapq.heappop(loads)
        hands[rank].append(pack)
        if len(hands[rank]) < len(packs) // ranks:
            heapq.heappush(loads, (load + pack.cost, rank))
    return hands
