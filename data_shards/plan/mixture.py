"""Which sources are drawn how often, and all else that decides a plan besides the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from omni.entry import EntryError

SCALE = 1 << 28  # the weights of a step sum to it
Weight = float | Mapping[int, float]
Schedule = list[tuple[int, list[tuple[int, int]]]]
"""[(from_step, [(source number, weight out of SCALE)])], in order of the steps"""


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
            raise EntryError(f"by: {self.by!r}; use samples or tokens", "by")
        if self.overlong not in ("skip", "truncate", "split"):
            raise EntryError(
                f"overlong: {self.overlong!r}; use skip, truncate or split", "overlong"
            )
        for field in fields(self):
            value = getattr(self, field.name)
            counts = field.name.startswith(("max_", "packs", "window", "shuffle"))
            if counts and value is not None and value < 1:
                raise EntryError(f"{field.name} must be at least 1, not {value}", field.name)
        if not (self.max_tokens or self.max_samples):
            raise EntryError("a pack needs a limit: set max_tokens, max_samples or both")
        if self.max_tokens and self.max_length and self.max_length > self.max_tokens:
            raise EntryError(
                f"max_length {self.max_length} does not fit into a pack of {self.max_tokens} "
                "tokens", "max_length",
            )  # fmt: skip


def check_mixture(mixture: Mapping[str, Weight]) -> None:
    """Raise EntryError if weights are wrong, or at some step none is above 0."""
    schedule_of(mixture, sorted(mixture))


def schedule_of(mixture: Mapping[str, Weight], names: Sequence[str]) -> Schedule:
    """Return (from_step, [(source number, whole weight)]) in order; weights sum to SCALE."""
    given = {n: w if isinstance(w, Mapping) else {0: w} for n, w in mixture.items()}
    for name, weights in given.items():
        for step, weight in weights.items():
            numbers = isinstance(step, int) and isinstance(weight, int | float)
            if not (numbers and step >= 0 and 0 <= weight < float("inf")):
                raise EntryError(
                    f"source {name!r}: {step}: {weight} is no from_step: weight >= 0",
                    "mixture", name,
                )  # fmt: skip
    schedule = []
    for first in sorted({0, *(step for weights in given.values() for step in weights)}):
        now = [max((s, w) for s, w in ((-1, 0.0), *given[n].items()) if s <= first)[1]
               for n in names]  # fmt: skip
        if not sum(now) > 0:
            raise EntryError(f"the mixture has no weight above 0 at step {first}", "mixture")
        whole = [round(SCALE * w / sum(now)) for w in now]
        whole[whole.index(max(whole))] += SCALE - sum(whole)
        schedule.append((first, [(i, w) for i, w in enumerate(whole) if w]))
    return schedule
