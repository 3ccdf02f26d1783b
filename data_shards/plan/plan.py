"""What each step is trained on: a pure function of index hashes, lengths, config and seed.

Order (Philox) -> mix (largest deficit) -> pack (oldest first, best fit) -> assign (largest first).
Nothing is read here. Any rank computes the whole plan, so ranks never talk about data, and the
plan goes on from a few kilobytes of state. Memory: 8 bytes a row for the order of one epoch of
each source; with `shuffle_shards`, only of one window of shards.
"""

import hashlib
import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from omni.entry import EntryError

from .draws import BIG, Item, Source
from .mixture import PlanConfig, check_mixture, schedule_of
from .packing import Pack, Planner, Snapshot, Step

if TYPE_CHECKING:
    from ..index.index import Index, Lengths

__all__ = ["Item", "Pack", "Plan", "PlanConfig", "Snapshot", "Step", "check_mixture", "deal"]
VERSION = 2


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
        self.schedule = schedule_of(config.mixture, self.names)
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

    def _planner(self) -> Planner:
        of = [Source(n, self.sources[n], self.lengths[n], self.config) for n in self.names]
        return Planner(self.config, of, self.schedule, self.identity)

    def start(self) -> Snapshot:
        """Return the state before the first step."""
        return self._planner().snapshot()

    def steps(self, state: Mapping[str, Any] | None = None) -> Iterator[Step]:
        """Yield the steps, without end.

        Raises:
            ValueError: `state` belongs to another plan.
        """
        planner = self._planner()
        if state:
            self.check(state)
            planner.restore(state)
        while True:
            yield planner.plan_step()


def _digest(lengths: "Lengths") -> str:
    """Hash the lengths, every one of up to four million, evenly spaced ones of more."""
    step = -(-len(lengths.tokens) // (1 << 22))
    digest = hashlib.blake2b(digest_size=8)
    for values in (lengths.tokens, lengths.patches, lengths.frames):
        digest.update(np.ascontiguousarray(values[::step], dtype="<u4").data)
    return digest.hexdigest()


def check_ranks(config: PlanConfig, ranks: int) -> None:
    """Raise EntryError if the packs of a step cannot be shared equally by so many ranks."""
    if config.packs_per_step % ranks:
        raise EntryError(
            f"{config.packs_per_step} packs of a step cannot be assigned equally to {ranks} ranks: "
            "choose a number of ranks that divides them", "packs_per_step",
        )  # fmt: skip


def deal(packs: Sequence[Pack], ranks: int) -> list[list[Pack]]:
    """Give every rank equally many packs of nearly equal cost: largest first, then by swaps.

    6. It depends on nothing but its arguments, so every rank knows what the others do.

    Raises:
        ValueError: the packs cannot be shared equally.
    """
    if len(packs) % ranks:
        raise ValueError(
            f"{len(packs)} packs of a step cannot be assigned equally to {ranks} ranks: choose a "
            "number of ranks that divides them"
        )
    assigned: list[list[Pack]] = [[] for _ in range(ranks)]
    loads = [(0.0, rank) for rank in range(ranks)]
    for pack in sorted(packs, key=lambda p: (-p.cost, p.number)):
        load, rank = heapq.heappop(loads)
        assigned[rank].append(pack)
        if len(assigned[rank]) < len(packs) // ranks:
            heapq.heappush(loads, (load + pack.cost, rank))
    _swap(assigned)
    return assigned


def _swap(assigned: list[list[Pack]]) -> None:
    """Swap packs of the rank with the most work for smaller ones of others while that helps.

    Equal counts bind the ranks: a rank with one costly pack gets three others all the same.
    """
    loads = [sum(pack.cost for pack in mine) for mine in assigned]
    for _ in range(4 * len(assigned)):
        most = max(range(len(assigned)), key=loads.__getitem__)
        for other in sorted(range(len(assigned)), key=loads.__getitem__):
            gap = loads[most] - loads[other]
            # moving d of the gap leaves the larger of the two at gap - d or d above the smaller
            left, i, j = min(
                (max(gap - p.cost + q.cost, p.cost - q.cost), i, j)
                for i, p in enumerate(assigned[most])
                for j, q in enumerate(assigned[other])
            )
            if left < gap - 1e-9 * loads[most]:
                break
        else:
            return
        ours, theirs = assigned[most][i], assigned[other][j]
        assigned[most][i], assigned[other][j] = theirs, ours
        loads[most] += theirs.cost - ours.cost
        loads[other] += ours.cost - theirs.cost
