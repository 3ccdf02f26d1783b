"""DPO on pictures and sounds: which of two captions fits, told by the medium and by nothing else.

Each caption is as often chosen as rejected, so that a guess is right in half. The control shows the
medium of another sample of its kind.
"""

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_shards.bench.result import Result
from data_shards.shards.sample import Sample

from . import toys

ENOUGH, BLIND = 80.0, 60.0  # per cent, at least and at most
WAYS = ("before", "after", "shuffled")
KINDS = ("image", "audio")
SHORT = ["stages.sft.steps=2", "stages.dpo.steps=2"]


def run(folder: Path, small: bool = False, seeds: int = 1) -> Result:
    """Run the recipe dpo_omni for each seed, and see which captions its checkpoints prefer.

    Args:
        folder: to work in.
        small: a few steps on few samples, which show nothing.
        seeds: how many.
    """
    hits: dict[tuple[str, str], list[bool]] = {}
    for seed in range(seeds):
        data = folder / f"data-{seed}"
        toys.made(data, ["captions", "pairs"], 60 if small else 1000, seed)
        run = toys.train("dpo_omni", folder / f"run-{seed}", data, seed, SHORT if small else ())
        held = toys.samples(data / "pairs", most=12 if small else None)
        asked = ("sft", held), ("dpo", held), ("dpo", shuffled(held, seed))
        for way, (name, found) in zip(WAYS, asked, strict=True):
            scores = toys.likelihoods(run / name, found)
            for one, (chosen, rejected) in zip(found, scores.tolist(), strict=True):
                hits.setdefault((way, _kind(one)), []).append(chosen > rejected)
    rows = [{"checkpoint": way, **{f"{kind} %": toys.share(hits[way, kind]) for kind in KINDS},
             "n": sum(len(hits[way, kind]) for kind in KINDS)} for way in WAYS]  # fmt: skip
    share = {f"{way}_{kind}": toys.percent(hits[way, kind]) for way in WAYS for kind in KINDS}
    return Result(small or holds(share), {"seeds": seeds, **share}, rows)


def holds(figures: Mapping[str, Any]) -> bool:
    """Whether DPO teaches to look and listen, which nothing did before, nor other media do."""
    return all(figures[f"after_{kind}"] >= ENOUGH and figures[f"before_{kind}"] <= BLIND
               and figures[f"shuffled_{kind}"] <= BLIND for kind in KINDS)  # fmt: skip


def _kind(sample: Sample) -> str:
    return next(kind for kind, _ in sample.refs())


def shuffled(held: list[Sample], seed: int) -> list[Sample]:
    """Return samples, each with the medium of one of its kind, drawn among all of them."""
    found, rng = [], random.Random(seed)
    for kind in KINDS:
        mine = [one for one in held if _kind(one) == kind]
        parts = [one.parts for one in mine]
        rng.shuffle(parts)
        found += [replace(one, parts=other) for one, other in zip(mine, parts, strict=True)]
    return found
