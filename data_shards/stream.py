"""An endless weighted mixture of shards in which every draw is a pure function of its number."""

import hashlib
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .read import Bad, Entry, find_shards, read_entry, scan_shard
from .sample import Sample

Patterns = str | Path | Iterable[str | Path]


class Source:
    """One named set of shards: its samples, what was bad in them, and its seeded orders."""

    def __init__(self, name: str, patterns: Patterns, seed: int):
        self.name, self.entries, self.bad = name, [], []
        digest = hashlib.sha256()
        for path in find_shards(patterns):
            entries, bad = scan_shard(path)
            self.entries.extend(entries)
            self.bad.extend(bad)
            for entry in entries:
                digest.update(f"{entry.where}@{entry.offset}:{entry.parts}\n".encode())
        if not self.entries:
            reasons = "".join(f"\n  {bad}" for bad in self.bad[:5])
            raise ValueError(f"source {name!r} holds no readable sample{reasons}")
        self.fingerprint = digest.hexdigest()[:16]
        self._salt = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big")
        self._order = lru_cache(maxsize=4)(self._permutation)

    entries: list[Entry]
    bad: list[Bad]

    def _permutation(self, epoch: int) -> np.ndarray:
        return np.random.Generator(np.random.Philox(key=[self._salt, epoch])).permutation(
            len(self.entries)
        )

    def at(self, cursor: int) -> Entry:
        """Return the sample of the source's own draw number `cursor`; each epoch is reshuffled."""
        epoch, position = divmod(cursor, len(self.entries))
        return self.entries[self._order(epoch)[position]]

    def substitute(self, n: int, attempt: int) -> Entry:
        """Return what stands in, at the given attempt (from 1), for the bad sample of draw `n`."""
        key = [self._salt ^ n, attempt]
        rng = np.random.Generator(np.random.Philox(key=key))
        return self.entries[rng.integers(len(self.entries))]


class Stream:
    """Mix sources by weight: `Stream({"captions": (["dir/train-*.tar"], 0.7), ...}, seed)`.

    A source's k-th sample is due at time (k + 1/2) / weight, and draws are taken in the order
    in which they are due. So the share of a source never strays more than a draw or two from
    its weight, and draw `n` needs no history: resuming is knowing one number.
    """

    def __init__(self, mixture: Mapping[str, tuple[Patterns, float]], seed: int = 0):
        if not mixture:
            raise ValueError("a mixture needs at least one source")
        for name, (_, weight) in mixture.items():
            if not weight > 0:
                raise ValueError(f"source {name!r}: weight {weight!r} must be above 0")
        self.seed = seed
        self.sources = [Source(name, patterns, seed) for name, (patterns, _) in mixture.items()]
        shares = [Fraction(w).limit_denominator(1_000_000) for _, w in mixture.values()]
        self.weights = [share / sum(shares) for share in shares]

    def draw(self, n: int) -> tuple[Source, int]:
        """Return the source of draw `n` and how many draws that source had before."""
        start = max(0, n - len(self.weights))  # this early, at most n draws are due
        counts = [max(0, -int((Fraction(1, 2) - w * start) // 1)) for w in self.weights]
        while True:
            pairs = zip(counts, self.weights, strict=True)
            due = [(count + Fraction(1, 2)) / weight for count, weight in pairs]
            index = due.index(min(due))
            if sum(counts) == n:
                return self.sources[index], counts[index]
            counts[index] += 1

    def name(self, n: int) -> str:
        """Return the name of the source of draw `n`."""
        return self.draw(n)[0].name

    def entry(self, n: int, attempt: int = 0) -> Entry:
        """Return where draw `n` lies; `attempt` > 0 is what stands in for it when it is bad.

        A stand-in comes from the same source and depends on nothing but `n` and `attempt`, so
        other draws do not move, and ranks and threads need not tell one another.
        """
        source, cursor = self.draw(n)
        return source.substitute(n, attempt) if attempt else source.at(cursor)

    def sample(self, n: int) -> Sample:
        """Read draw `n`.

        Raises:
            BadSample: it cannot be read.
        """
        return read_entry(self.entry(n))

    @property
    def bad(self) -> list[Bad]:
        """Return everything that was found damaged while the shards were scanned."""
        return [bad for source in self.sources for bad in source.bad]

    def fingerprint(self) -> dict[str, Any]:
        """Return what must stay the same for a draw number to mean the same sample."""
        mixture = {s.name: str(w) for s, w in zip(self.sources, self.weights, strict=True)}
        index = {f"index.{source.name}": source.fingerprint for source in self.sources}
        return {"seed": self.seed, "mixture": mixture, **index}
