"""Critique fine-tuning: are held-out answers judged rightly, and what becomes of own answers?

Half of the answers are wrong, so a guess is right in 50 of 100. The control learns from critiques
that were shuffled among the answers. Beside it are answers to the questions themselves: after
critiques, after the noisy answers that were criticised, and after right ones, from one parent.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_shards.bench.result import Result
from data_shards.shards.sample import Sample
from omni.generation.settings import Generation
from omni.processing.messages import assistant, user

from ..sampling.verdict import is_right
from . import toys

WAYS = ("cft", "shuffled", "noisy", "verified")
ENOUGH, CHANCE, SLACK = 90.0, 50.0, 10.0  # per cent
Hits = dict[tuple[str, str], list[bool]]


def run(folder: Path, small: bool = False, seeds: int = 1) -> Result:
    """Train one parent and each way from it, for each seed.

    Args:
        folder: to work in.
        small: a few steps on few samples, which show nothing.
        seeds: how many.
    """
    hits: Hits = {}
    short = ["stages.sft.steps=2", "stages.cft.steps=2"] if small else []
    for seed in range(seeds):
        data, base = folder / f"data-{seed}", folder / f"run-{seed}"
        toys.made(data, ["sums", "critique"], 60 if small else 2000, seed)
        toys.train("cft", base, data, seed, short, ["sft"])
        train = toys.samples(data / "critique", "train")
        held = toys.samples(data / "critique", most=8 if small else 200)
        for way in WAYS:
            shards = toys.rewritten(folder / f"{way}-{seed}", _CONTROLS[way](train, seed))
            output = folder / f"run-{seed}-{way}"
            told = [*short, f"sources.critique=[{shards}]"]
            toys.train("cft", output, data, seed, told, ["cft"], base / "sft")
            _ask(output / "cft", held, way, hits)
        _ask(base / "sft", held, "parent", hits)
    ways = ("parent", *WAYS)
    rows = [{"trained on": way, "verdicts %": toys.share(hits[way, "verdict"]),
             "own answers %": toys.share(hits[way, "answer"]),
             "n": len(hits[way, "answer"])} for way in ways]  # fmt: skip
    figures = {f"{what}_{way}": toys.percent(hits[way, what])
               for way in ways for what in ("verdict", "answer")}  # fmt: skip
    return Result(small or holds(figures), {"seeds": seeds, **figures}, rows)


def holds(figures: Mapping[str, Any]) -> bool:
    """Whether critiques teach to judge, and shuffled ones no better than a guess."""
    guess = abs(figures["verdict_shuffled"] - CHANCE) <= SLACK
    return figures["verdict_cft"] >= ENOUGH and guess


def _ask(checkpoint: Path, held: list[Sample], way: str, hits: Hits) -> None:
    """Add which verdicts and which own answers are right."""
    how = Generation(max_new_tokens=64)
    verdicts = toys.asked(checkpoint, held, how)
    hits.setdefault((way, "verdict"), []).extend(
        is_right("conclusion", toys.said(one), found.text)
        for one, [found] in zip(held, verdicts, strict=True)
    )
    plain = [replace(one, messages=[user(one.meta["query"])]) for one in held]
    answers = toys.asked(checkpoint, plain, how)
    hits.setdefault((way, "answer"), []).extend(
        toys.last_number(found.text) == one.meta["answer"]
        for one, [found] in zip(held, answers, strict=True)
    )


def _shuffled(train: list[Sample], seed: int) -> list[Sample]:
    critiques = [one.messages[-1] for one in train]
    random.Random(seed).shuffle(critiques)
    return [replace(one, messages=[*one.messages[:-1], critique])
            for one, critique in zip(train, critiques, strict=True)]  # fmt: skip


def _answered(name: str) -> Callable[[list[Sample], int], list[Sample]]:
    def answered(train: list[Sample], seed: int) -> list[Sample]:
        return [replace(one, messages=[user(one.meta["query"]),
                                       assistant(f"Final Answer: {one.meta[name]}")])
                for one in train]  # fmt: skip

    return answered


_CONTROLS: dict[str, Callable[[list[Sample], int], list[Sample]]] = {
    "cft": lambda train, seed: train, "shuffled": _shuffled,
    "noisy": _answered("noisy"), "verified": _answered("answer"),
}  # fmt: skip
