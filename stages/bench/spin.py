"""Self-play: does what a model answers come nearer to real answers, round by round?

How far it is from them is read off held-out prompts: the log-probability of the real answer minus
that of a fresh own one, under the same checkpoint. As it learns to answer as the data do, that gap
goes to 0. The control plays against answers that are the real ones: nothing tells them apart, so
the margin stays 0.
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from data_shards.bench.result import Result
from data_shards.read.encode import Encode
from data_shards.shards.manifest import read_manifest
from data_shards.shards.rendering import CONVERSATION
from data_shards.shards.sample import Sample
from omni.features.cache import weights_hash
from omni.generation.settings import Generation
from omni.load import load
from omni.processing.messages import assistant

from ..objectives.task import Task
from . import toys

ROUNDS = ("sft", "spin1", "spin2")
SHORT = [f"stages.{name}.steps=4" for name in ROUNDS]
ROUNDING = 1e-6  # of a margin that is 0


def run(folder: Path, small: bool = False, seeds: int = 1) -> Result:
    """Run the recipe spin for each seed, and look at each of its stages.

    Args:
        folder: to work in.
        small: a few steps on few samples, which show nothing.
        seeds: how many.
    """
    rows, falls, margins, replaced = [], [], [], []
    for seed in range(seeds):
        data = folder / f"data-{seed}"
        toys.made(data, ["sums"], 120 if small else 2000, seed)
        run = toys.train("spin", folder / f"run-{seed}", data, seed, SHORT if small else ())
        held = toys.samples(data / "sums", most=8 if small else 128)
        gaps = [_gap(run / name, held, seed) for name in ROUNDS]
        margin = _same(run / "sft", held[:8])
        opponents = [_opponent(run, *pair) for pair in (("own1", "sft"), ("own2", "spin1"))]
        rows.append({"seed": seed, **{f"gap {name}": f"{gap:.2f}" for name, gap in
                     zip(ROUNDS, gaps, strict=True)}, "margin real = own": f"{margin:.1e}",
                     "opponent is the parent": all(opponents)})  # fmt: skip
        falls.append(all(abs(b) < abs(a) for a, b in pairwise(gaps)))
        margins.append(margin)
        replaced.append(all(opponents))
    figures = {"seeds": seeds, "closes": sum(falls), "margin": max(margins),
               "opponents": all(replaced)}  # fmt: skip
    return Result(holds(figures, small), figures, rows)


def holds(figures: Mapping[str, Any], small: bool = False) -> bool:
    """Whether the gap closes, unless `small`, against the parent alone, and none opens of nothing.

    The last of these is the control's margin.
    """
    closes = small or figures["closes"] == figures["seeds"]
    return closes and figures["opponents"] and figures["margin"] < ROUNDING


def _gap(checkpoint: Path, held: list[Sample], seed: int) -> float:
    """Return how much more likely real answers are than fresh own ones, in nats, a mean."""
    how = Generation(max_new_tokens=96, temperature=1.0, seed=seed + 1)
    pairs = [
        Sample(one.messages[:-1], one.parts, one.meta, chosen=one.messages[-1:],
               rejected=[assistant(own.text)])
        for one, [own] in zip(held, toys.asked(checkpoint, held, how), strict=True)
    ]  # fmt: skip
    found = toys.likelihoods(checkpoint, pairs)
    return float((found[:, 0] - found[:, 1]).mean())


def _same(checkpoint: Path, held: list[Sample]) -> float:
    """Return the largest margin while a model trains on pairs of twice the same answer."""
    model, processor = load(checkpoint)
    task = Task(model, {"kind": "spin", "beta": 0.1}).train()
    optimizer = torch.optim.AdamW(task.model.parameters(), 1e-3, weight_decay=0)
    encode = Encode(processor, CONVERSATION)
    batch = processor.pack([d for one in held for d in encode.sample(one) * 2])
    largest = 0.0
    for _ in range(4):
        loss = task(batch, torch.tensor(len(held)))
        loss.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        largest = max(largest, abs(float(loss.sums["rewards.margin"])))
    return largest


def _opponent(run: Path, source: str, parent: str) -> bool:
    """Whether the answers of a source are of the stage's own parent, as it still is on disk."""
    manifest: dict[str, Any] = read_manifest(run / "sampled" / source) or {}
    return manifest.get("weights") == weights_hash(load(run / parent)[0])
