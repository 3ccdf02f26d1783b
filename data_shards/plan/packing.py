"""Mix sources by weight and pack their draws, step by step."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from operator import mul
from typing import Any, NamedTuple

from .draws import BIG, Item, Source
from .mixture import SCALE, PlanConfig, Schedule


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


class Planner:
    """The moving part of a plan."""

    def __init__(
        self,
        config: PlanConfig,
        sources: Sequence[Source],
        schedule: Schedule,
        identity: dict[str, Any],
    ):
        self.config, self.sources = config, sources
        self.schedule, self.identity = schedule, identity
        self.step = self.drawn = self.oldest = 0  # oldest: no undelivered draw is older
        self.credits = [0] * len(self.sources)
        self.items: dict[int, Item] = {}  # the window, by serial number of the draw
        self.sizes: list[int] = []  # the window by length, see invariant 3
        self.serials: list[int] = []
        self.draws = [source.draws for source in self.sources]
        self.active = schedule[0][1]
        self.by_tokens = config.by == "tokens"

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
        self.active = [w for first, w in self.schedule if first <= self.step][-1]
        count = self.config.packs_per_step
        first = self.step * count
        packs = [self._pack(first + i) for i in range(count)]
        self.step += 1
        return Step(self.step - 1, packs, self.snapshot())

    def snapshot(self) -> Snapshot:
        counts = [source.counts() for source in self.sources]
        return Snapshot(
            self.step, self.drawn, self.credits[:], counts, self.items.copy(), self.identity
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
            for item in next(draws[chosen]):
                size = item[3]
                at = bisect_left(sizes, size)
                sizes.insert(at, size)
                serials.insert(at, drawn)
                items[drawn] = item
                drawn += 1
                if by_tokens:
                    for number, weight in active:
                        credit[number] += weight * size
                    credit[chosen] -= SCALE * size
            if by_tokens:  # the sample itself counts nothing
                for number, weight in active:
                    credit[number] -= weight
                credit[chosen] += SCALE
        self.drawn = drawn
