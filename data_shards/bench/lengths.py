"""Sources that are nothing but lengths: what a plan needs to know, without a file."""

import json
from typing import Any

import numpy as np

from ..index.index import Lengths
from ..plan.plan import Plan, PlanConfig

CAPACITY = 8192  # tokens of a pack
MIXES = ("text", "pictures", "everything")


class Numbered:
    """Stands for the index of `size` samples in equal shards."""

    def __init__(self, size: int, shards: int = 8):
        self.size, self.hash = size, f"numbered-{size}"
        self.samples = np.zeros(size, [("shard", "<u4")])
        self.samples["shard"] = np.arange(size) * shards // size

    def __len__(self) -> int:
        return self.size


def lengths_of(mix: str, count: int) -> Lengths:
    """Return seeded lengths of a mix, (count,) each, of at most `CAPACITY` tokens.

    text: log-normal, as chats are; pictures: one of a few sizes of picture and a short answer;
    everything: two parts of chats, two of pictures, and one of sounds of up to 30 s.
    """
    rng = np.random.default_rng(MIXES.index(mix))
    chats = rng.lognormal(5.8, 1.1, count)
    sizes = rng.choice([256, 576, 1024, 2880], count, p=[0.2, 0.5, 0.2, 0.1])
    answers, sounds = rng.lognormal(4.0, 0.8, count), rng.uniform(50, 750, count)
    kind = {"text": np.zeros(count, int), "pictures": np.ones(count, int),
            "everything": rng.choice(3, count, p=[0.4, 0.4, 0.2])}[mix]  # fmt: skip
    tokens = np.choose(kind, [chats, sizes + answers, sounds + answers])
    patches, frames = np.where(kind == 1, sizes * 4, 0), np.where(kind == 2, sounds * 2, 0)
    tokens = tokens.clip(16, CAPACITY)
    return Lengths(*(column.astype(np.uint32) for column in (tokens, patches, frames)))


def plan_of(lengths: dict[str, Lengths], **config: Any) -> Plan:
    """Plan sources of these lengths, equally mixed unless `config` says otherwise."""
    sources: Any = {name: Numbered(len(of.tokens)) for name, of in lengths.items()}
    config = {"mixture": dict.fromkeys(lengths, 1.0), "max_tokens": CAPACITY} | config
    return Plan(sources, PlanConfig(**config), lengths)


def stored(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state as it comes back from a checkpoint."""
    return json.loads(json.dumps(state))
