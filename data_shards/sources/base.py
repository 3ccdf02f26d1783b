"""What every source shares: its contract, the split by identity, and media encoding."""

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from PIL import Image

from omni.media.decode import within_scale

from ..shards.sample import SCHEMA, Sample

RATE = 16_000


class SourceUnavailable(RuntimeError):  # noqa: N818 - reads as what it is
    """A source cannot be had here; the text says what was tried and how to supply it."""


class SourceError(ValueError):
    """A source's options or input files are wrong."""


@dataclass
class Build:
    """What a source is told and what it reports.

    `skip` names input that it left out; `unused` counts by name what it left out of the rest.

    A source sets `total`, the number of samples to come, as soon as it knows, and adds to
    `facts` what the manifest should say beyond its options.
    """

    seed: int = 0
    heldout: float = 0.15
    say: Callable[[str], None] = print
    total: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    left: Counter[tuple[str, str]] = field(default_factory=Counter)
    licenses: dict[str, str] = field(default_factory=dict)

    def skip(self, where: str, reason: str) -> None:
        """Count and name input that cannot be used."""
        self.skipped.append(f"{where}: {reason}")

    def unused(self, *names: str, of: str = "row") -> None:
        """Count what one row (or other thing, as `of` says) has and the source does not use."""
        self.left.update((of, name) for name in dict.fromkeys(names))

    def report_unused(self, source: str) -> None:
        """Say what was counted, and note it for the manifest; call it once all is listed."""
        for (of, name), count in self.left.items():
            things = f"{of} has" if count == 1 else f"{of}s have"
            self.say(f"{count:,} {things} {name!r}, which {source} does not use")
        if self.left:
            self.facts["unused"] = [
                {"of": of, "name": name, "count": count} for (of, name), count in self.left.items()
            ]

    def rng(self, *names: object) -> np.random.Generator:
        """Return a generator that depends on the seed and the names only."""
        return np.random.Generator(np.random.Philox(key=[digest(self.seed, *names), 0]))


class SourceOptions(Protocol):
    """A source is a dataclass of options, each annotated with its help text, that makes samples."""

    name: ClassVar[str]
    licenses: ClassVar[dict[str, str]]
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def generate(self, build: Build) -> Iterator[Sample]:
        """Yield every sample of both splits."""
        ...


def digest(*names: object) -> int:
    """Return 64 bits that depend on the names only, on every machine."""
    text = "\0".join(str(name) for name in names)
    data = text.encode("utf-8", "surrogatepass")  # file names may be in any encoding
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")


def heldout(strata: Mapping[str, str], share: float, seed: int) -> set[str]:
    """Choose the identities to hold out: `share` of every stratum, by a seeded hash.

    Args:
        strata: identity -> stratum, for instance its category.
        share: part of each stratum; at least one identity of a stratum that has two or more.
        seed: another seed gives another choice.
    """
    groups: dict[str, list[str]] = {}
    for identity, stratum in strata.items():
        groups.setdefault(stratum, []).append(identity)
    chosen: set[str] = set()
    for members in groups.values():
        members.sort(key=lambda identity: digest(seed, identity))
        count = round(share * len(members))
        if share > 0 and len(members) > 1:
            count = min(max(1, count), len(members) - 1)
        chosen.update(members[:count])
    return chosen


class Deck:
    """Draw values in random order but exactly equally often: what balances the answers."""

    def __init__(self, values: Sequence[str], rng: np.random.Generator):
        self.values, self.rng, self.left = list(values), rng, []

    left: list[str]

    def draw(self) -> str:
        """Return the next value; a used-up deck is shuffled again."""
        if not self.left:
            self.left = [self.values[i] for i in self.rng.permutation(len(self.values))]
        return self.left.pop()


class Groups:
    """Names that belong together, transitively; a group is called after its earliest name."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}
        self._age: dict[str, int] = {}

    def find(self, name: str) -> str:
        """Return the name of the group; a new name starts its own."""
        self._age.setdefault(name, len(self._age))
        while (parent := self._parent.setdefault(name, name)) != name:
            self._parent[name] = self._parent[parent]  # halves the way for the next caller
            name = parent
        return name

    def join(self, one: str, other: str) -> None:
        """Make one group of two."""
        first, second = sorted((self.find(one), self.find(other)), key=self._age.__getitem__)
        self._parent[second] = first


def facts(source: str, licence: str, kind: str, **more: Any) -> dict[str, Any]:
    """Return the meta of a sample."""
    return {"source": source, "license": licence, "schema": SCHEMA, "kind": kind, **more}


def jpeg(image: Image.Image, quality: int = 90, subsampling: str = "4:2:0") -> bytes:
    """Encode an RGB image; `subsampling` 4:4:4 keeps the colours of thin lines."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, subsampling=subsampling)
    return out.getvalue()


def png(image: Image.Image) -> bytes:
    """Encode an RGB image without loss."""
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def flac(wave: np.ndarray, rate: int = RATE) -> bytes:
    """Encode a mono float wave (samples,), scaled down as a whole where it goes beyond [-1, 1]."""
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, within_scale(wave), rate, format="FLAC", subtype="PCM_16")
    return out.getvalue()
