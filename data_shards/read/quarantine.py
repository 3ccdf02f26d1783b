"""What of the samples read is bad: a list of it, counts, and when there is too much of it."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omni.files.jsonl import append_lines, read_lines

from ..shards.shard import Bad

log = logging.getLogger(__name__)
FEW = 8  # samples of a modality that are tried before it is given up
MOST_CHARS = 500  # of a reason that a state holds


class TooManyBad(RuntimeError):  # noqa: N818 - reads as what it is
    """So many samples are bad that training on the rest would hide a broken data set."""


class Quarantine:
    """The list of bad samples, one json object a line; a resumed run repeats none of them."""

    def __init__(self, path: Path | str | None):
        self.path = Path(path) if path else None
        self._seen: set[tuple[Any, ...]] = set()
        for row in read_lines(self.path) if self.path else ():
            self._seen.add((row["shard"], row["key"], row["offset"], row["pack"]))

    def add(self, bad: Bad, source: str, pack: int | None) -> None:
        """Append a sample unless it is there already; `pack` is None if a scan found it."""
        place = (bad.shard, bad.key, bad.offset, pack)
        if not self.path:
            log.warning("%s: skipped %s", source, bad)
        elif place not in self._seen:
            self._seen.add(place)
            row = {"source": source, "key": bad.key, "shard": bad.shard, "offset": bad.offset,
                   "reason": bad.reason, "pack": pack}  # fmt: skip
            append_lines(self.path, [row])


@dataclass
class Counts:
    """How many samples a rank has read and how many were bad, in all and by modality.

    Args:
        max_bad_share: of the samples, checked from ten bad ones on.
        max_bad_run: bad samples one after the other.
        listed: where the bad ones are, for errors.
    """

    max_bad_share: float
    max_bad_run: int
    listed: str
    seen: int = 0
    bad: int = 0
    run: int = 0
    """bad ones in a row, up to the last"""
    media: dict[str, dict[str, Any]] = field(default_factory=dict)
    """by modality: samples with it that were `read` and `bad`, and the `first` bad one as text"""

    def state(self) -> dict[str, Any]:
        """Return the counts as json."""
        media = {name: {**count} for name, count in self.media.items()}
        return {"seen": self.seen, "bad": self.bad, "run": self.run, "media": media}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from counts that `state` returned, by modality or, as once, without."""
        self.seen, self.bad, self.run = state["seen"], state["bad"], state["run"]
        self.media = {name: {**count} for name, count in state.get("media", {}).items()}

    def add(self, source: str, modalities: Iterable[str], bad: Bad | None) -> None:
        """Count a sample of a source with media of these modalities.

        Raises:
            TooManyBad: more are bad than is allowed, or all of a modality.
        """
        self.seen += 1
        self.bad, self.run = (self.bad + 1, self.run + 1) if bad else (self.bad, 0)
        for name in modalities:
            count = self.media.setdefault(name, {"read": 0, "bad": 0, "first": ""})
            count["read"] += 1
            if bad:
                count["bad"] += 1
                count["first"] = count["first"] or str(bad)[:MOST_CHARS]
        if bad:
            self._check(source, bad)

    def _check(self, source: str, bad: Bad) -> None:
        if self.run >= self.max_bad_run:
            raise TooManyBad(
                f"source {source!r}: {self.run} samples in a row are bad, the last: {bad}; "
                f"see {self.listed}"
            )
        if self.bad >= 10 and self.bad > self.max_bad_share * self.seen:
            raise TooManyBad(
                f"{self.bad} of {self.seen} samples were bad (limit {self.max_bad_share:.0%}); "
                f"see {self.listed}, mend the shards, or raise the limit"
            )
        tried = {name: c for name, c in self.media.items() if c["bad"] >= FEW}
        check_modalities([tried], self.listed)


def check_modalities(ranks: Iterable[Mapping[str, Mapping[str, Any]]], listed: str) -> None:
    """Look for a modality of which nothing was learnt, however few samples had it.

    Args:
        ranks: `Counts.media` of each.
        listed: where the bad samples are.

    Raises:
        TooManyBad: every sample of a modality was bad, on all ranks.
    """
    found = list(ranks)
    for name in dict.fromkeys(name for media in found for name in media):
        counts = [media[name] for media in found if name in media]
        read, bad = (sum(count[key] for count in counts) for key in ("read", "bad"))
        if read and read == bad:
            first = next(count["first"] for count in counts if count["first"])
            raise TooManyBad(
                f"modality {name!r}: all {bad} of its samples that were tried are bad, so nothing "
                f"is learnt from it; the first: {first}; see {listed}, and mend the shards or "
                "the encoder's settings"
            )
