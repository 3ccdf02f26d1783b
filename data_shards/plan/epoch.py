"""What an epoch of a plan looks like, found by planning it: no sample is read."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .mixture import SCALE
from .packing import Step
from .plan import Plan, check_ranks, deal

MOST_DRAWN = 1_000_000  # samples that are planned, unless steps are given: seconds
MOST_ASSIGNED = 256  # steps whose packs are assigned to ranks
NO_REASON = "its template, its text or a medium that no encoder is attached for forbid it"
Why = Callable[[str, int], str]
"""(source, row) -> why the processor cannot encode it"""


@dataclass
class Packs:
    """The packs of some steps."""

    per_step: int
    tokens: np.ndarray  # (packs,)
    documents: np.ndarray  # (packs,)
    limit: int | None
    """tokens that a pack may hold"""

    @property
    def useful(self) -> float:
        """Return how full packs are; without a limit on tokens, a pack has no padding at all."""
        return float(self.tokens.mean()) / self.limit if self.limit else 1.0

    def __str__(self) -> str:
        room = f" of {self.limit:,}, {self.useful:.1%} full" if self.limit else ", no padding"
        return (
            f"packs: {self.per_step} a step, each of {self.documents.mean():.1f} documents and "
            f"{self.tokens.mean():,.0f} tokens ({self.tokens.min():,} to {self.tokens.max():,})"
            f"{room}"
        )


@dataclass
class Part:
    """A source's part in what was planned; shares are of all sources."""

    name: str
    samples: int
    asked: float
    """share by the mixture, over the steps planned"""
    got: float
    """share of the samples or tokens in their packs, whichever the mixture weighs"""
    of_tokens: float
    drawn: int
    """samples, among them those left out and those that wait for a pack"""
    epoch: int | None
    """steps until each of its samples that is not left out was in a pack; None: never"""
    exact: bool
    """whether that was planned; else it follows from the share that was drawn"""
    fates: dict[str, tuple[int, str]]
    """what becomes of samples that are not used whole: how many, and the first with the reason"""


@dataclass
class Epoch:
    """What the steps of a plan look like, until every source was used whole or as many as asked.

    `spread` and `worst` say how much longer than the mean of all ranks the slowest works on a
    step, by the plan's cost: on average, and in the worst step.
    """

    steps: int
    packs: Packs
    by: str
    parts: list[Part]
    ranks: int
    spread: float
    worst: float

    @property
    def whole(self) -> int | None:
        """Return the steps until every source was used whole, None if one never is."""
        found = [part.epoch for part in self.parts]
        return None if None in found else max(step for step in found if step is not None)

    def figures(self) -> dict[str, Any]:
        """Return all of it as json."""
        packs = self.packs
        return {
            "steps": self.steps, "epoch_steps": self.whole,
            "exact": all(part.exact for part in self.parts), "packs": len(packs.tokens),
            "packs_per_step": packs.per_step, "documents_per_pack": float(packs.documents.mean()),
            "tokens": int(packs.tokens.sum()), "tokens_per_pack": float(packs.tokens.mean()),
            "padding": 1 - packs.useful, "by": self.by, "ranks": self.ranks,
            "spread": self.spread, "worst": self.worst,
            "sources": {part.name: _figures(part) for part in self.parts},
        }  # fmt: skip


def _figures(part: Part) -> dict[str, Any]:
    fates = {fate: {"samples": count, "first": first}
             for fate, (count, first) in part.fates.items()}  # fmt: skip
    names = ("samples", "asked", "got", "of_tokens", "drawn")
    rest = {"epoch_steps": part.epoch, "exact": part.exact, "fates": fates}
    return {name: getattr(part, name) for name in names} | rest


def survey(
    plan: Plan, ranks: int = 1, steps: int | None = None, why: Why = lambda *_: NO_REASON
) -> Epoch:
    """Plan until every source was used whole, or for so many steps, and count what comes.

    Of sources of more than `MOST_DRAWN` samples together it is the beginning that is planned.

    Raises:
        EntryError: the packs of a step cannot be shared equally by so many ranks.
    """
    check_ranks(plan.config, ranks)
    tally = _Tally(plan, ranks)
    for step in plan.steps():
        tally.add(step)
        if tally.steps == steps or (steps is None and tally.enough()):
            break
    return tally.epoch(why)


@dataclass
class _Tally:
    plan: Plan
    ranks: int
    steps: int = 0
    tokens: list[int] = field(default_factory=list)
    documents: list[int] = field(default_factory=list)
    spreads: list[float] = field(default_factory=list)
    samples_of: Counter[str] = field(default_factory=Counter)
    tokens_of: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    ends: dict[str, int] = field(default_factory=dict)  # of first epochs
    drawn: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.used = {name: np.zeros(len(of), bool) for name, of in self.plan.sources.items()}
        self.left = {  # rows of each source that were in no pack yet
            name: len(self.plan.sources[name]) - len(self.plan.fates(name)["skipped"])
            for name in self.plan.names
        }

    def add(self, step: Step) -> None:
        plan = self.plan
        for number, weight in [w for first, w in plan.schedule if first <= step.number][-1]:
            self.asked[plan.names[number]] += weight
        for pack in step.packs:
            self.tokens.append(pack.tokens)
            self.documents.append(len(pack.items))
            for item in pack.items:
                self.samples_of[item.source] += not item.piece
                self.tokens_of[item.source] += item.tokens
                if not self.used[item.source][item.row]:
                    self.used[item.source][item.row] = True
                    self.left[item.source] -= 1
        if self.steps < MOST_ASSIGNED:
            self.spreads.append(spread_of(step, self.ranks))
        self.steps += 1
        for name, counts in zip(plan.names, step.after.counts, strict=True):
            self.drawn[name] = counts["position"]
            if not self.left[name]:
                self.ends.setdefault(name, self.steps)

    def enough(self) -> bool:
        """Tell whether no source is left whose first epoch may still end, or too much is drawn."""
        schedule = self.plan.schedule
        now = sum(first <= self.steps for first, _ in schedule) - 1
        to_come = {self.plan.names[n] for _, weights in schedule[now:] for n, _ in weights}
        return to_come <= self.ends.keys() or sum(self.drawn.values()) >= MOST_DRAWN

    def epoch(self, why: Why) -> Epoch:
        plan = self.plan
        packs = Packs(plan.config.packs_per_step, np.array(self.tokens), np.array(self.documents),
                      plan.config.max_tokens)  # fmt: skip
        got = self.tokens_of if plan.config.by == "tokens" else self.samples_of
        parts = [
            Part(
                name, len(plan.sources[name]), round(self.asked[name] / SCALE / self.steps, 6),
                got[name] / max(1, got.total()),
                self.tokens_of[name] / max(1, self.tokens_of.total()), self.drawn[name],
                *self._end(name), fates(plan, name, why),
            )
            for name in plan.names
        ]  # fmt: skip
        spread, worst = float(np.mean(self.spreads)), max(self.spreads)
        return Epoch(self.steps, packs, plan.config.by, parts, self.ranks, spread, worst)

    def _end(self, name: str) -> tuple[int | None, bool]:
        """Return the steps of a source's first epoch, and whether they were planned."""
        if name in self.ends:
            return self.ends[name], True
        number, (_, last) = self.plan.names.index(name), self.plan.schedule[-1]
        if self.plan.schedule[-1][0] < self.steps and number not in {n for n, _ in last}:
            return None, True
        if not self.drawn[name]:
            return None, False
        return -(-self.steps * len(self.plan.sources[name]) // self.drawn[name]), False


def spread_of(step: Step, ranks: int) -> float:
    """Tell how much longer than the mean of all ranks the slowest works on a step, by cost."""
    loads = np.array([sum(pack.cost for pack in mine) for mine in deal(step.packs, ranks)])
    return float(loads.max() / loads.mean() - 1)


def fates(plan: Plan, name: str, why: Why = lambda *_: NO_REASON) -> dict[str, tuple[int, str]]:
    """Return what becomes of samples that are not used as they are: how many, and the first."""
    index, of, c = plan.sources[name], plan.lengths[name], plan.config
    told = {"damaged": (len(index.bad), str(index.bad[0]))} if index.bad else {}
    if len(rows := np.flatnonzero(of.tokens == 0)):
        row = int(rows[0])
        told["cannot be encoded"] = len(rows), f"{index.entry(row).where}: {why(name, row)}"
    limits = {
        "tokens": (c.max_length or c.max_tokens, "max_length"),
        "patches": (c.max_patches, "max_patches"), "frames": (c.max_frames, "max_frames"),
    }  # fmt: skip
    for fate, rows in plan.fates(name).items():
        if len(rows):
            row = int(rows[0])
            reason = [f"{getattr(of, unit)[row]:,} {unit}, {key} is {limit:,}"
                      for unit, (limit, key) in limits.items()
                      if limit and getattr(of, unit)[row] > limit]  # fmt: skip
            told[fate] = len(rows), f"{index.entry(row).where}: {', '.join(reason)}"
    return told
