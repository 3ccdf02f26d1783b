"""Answers as long as they are asked to be: does reinforcement make them so, for lengths unseen?"""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from data_shards.bench.result import Result
from data_shards.environments import make_environment
from data_shards.environments.base import draws
from data_shards.shards.sample import Sample
from data_shards.sources.base import facts
from omni.generation.settings import Generation
from omni.processing.messages import assistant

from ..objectives.credit import lcpo_exact
from ..recipe.rollout import Length
from ..rollouts.play import asking
from . import toys
from .llama import write_model
from .reinforced import ROW, Bench, Measured, arms, costs, permuted

LENGTH = Length("exact", 10, 29, 0.05, heldout=0.35)
WORLD = {"kind": f"{__package__}.worlds:Repeat", "most": LENGTH.most}
NEW = 36  # tokens of an answer
WARM_UP, STEPS, DRAWN = 150, 180, 32
CLOSE, FAR, SECONDS = 0.8, 0.2, 480


def run(folder: Path, small: bool = False, seeds: int = 1) -> Result:
    """Learn to repeat a letter for as many tokens as are asked for; ask for other lengths.

    The recipe is lcpo with a small random Llama, warmed up on answers of lengths that have nothing
    to do with those that are asked for. About a third of the lengths from 10 to 29 is never asked
    for while it learns: the correlation is between these and what is drawn. A control is paid what
    other answers to the same prompt earn.

    Args:
        folder: of shards, model and runs.
        small: a few steps, which learn nothing: the run is ok if all of it ran.
        seeds: of models, of what they draw, and of what is drawn for them.
    """
    measured = [_arms(folder / f"seed-{seed}", seed, small) for seed in range(seeds)]
    unseen = LENGTH.lengths("heldout")
    rows = [_row(arm, unseen, np.concatenate([one.found[arm] for one in measured], axis=1))
            for arm in measured[0].found]  # fmt: skip
    related = {row["arm"]: row["correlation"] for row in rows}
    figures = {
        "before": related["warm-up"], "after": related["verifier"],
        "shuffled": related["permuted"], "lengths": len(unseen), **costs(measured),
    }  # fmt: skip
    return Result(small or holds(figures), figures, rows)


def _arms(folder: Path, seed: int, small: bool) -> Measured:
    """Return how long the answers of a seed's arms are."""
    warm_up, steps, drawn = (2, 2, 4) if small else (WARM_UP, STEPS, DRAWN)
    talks = [_talk(seed) for seed in range(64 if small else 2000)]
    shards = toys.rewritten(folder / "shards", talks)
    texts = [str(part["text"]) for talk in talks for part in talk.messages[0]["content"]]
    size = (32, 1) if small else (64, 2)
    parameters = write_model(folder / "model", texts, *size, seed=seed)
    bench = Bench("lcpo", folder, {"solutions": shards}, WORLD, f"{__name__}:shuffled", [
        "stages.warm_up.trainable={language_model: 2.0e-3}", f"stages.warm_up.steps={warm_up}",
        "stages.warm_up.data.batch_size=32",
        "stages.rl.trainable={language_model: 1.0e-3}", f"stages.rl.steps={steps}",
        "stages.rl.rollout.prompts=16", "stages.rl.rollout.batch=16",
        f"stages.rl.rollout.max_tokens={ROW}",
        f"stages.rl.rollout.max_new_tokens={NEW}", f"stages.rl.rollout.length={asdict(LENGTH)}",
    ], seed, parameters)  # fmt: skip
    unseen = LENGTH.lengths("heldout")
    return arms(bench, lambda checkpoint: lengths(checkpoint, unseen, drawn))


def holds(figures: dict[str, Any]) -> bool:
    """Whether lengths follow what is asked for, after the verifier's rewards alone, in time."""
    return (figures["after"] > CLOSE and abs(figures["before"]) < FAR
            and abs(figures["shuffled"]) < FAR and figures["seconds"] <= SECONDS)  # fmt: skip


def lengths(checkpoint: Path, asked: Sequence[int], drawn: int) -> np.ndarray:
    """Ask for lengths, and return those of so many answers to each: (lengths, drawn)."""
    how = Generation(max_new_tokens=NEW, temperature=1.0, n=drawn)
    given = toys.asked(checkpoint, [_talk(0, tokens) for tokens in asked], how)
    return np.array([[len(one.ids) for one in answers] for answers in given])


def correlation(asked: Sequence[int], found: np.ndarray) -> float:
    """Return how far lengths (lengths, drawn) go with those asked for; 0 where all are the same."""
    if not found.std():
        return 0.0
    return float(np.corrcoef(np.repeat(asked, found.shape[1]), found.flatten())[0, 1])


def _row(arm: str, asked: Sequence[int], found: np.ndarray) -> dict[str, Any]:
    off = np.abs(found - np.array(asked)[:, None]).mean()
    return {
        "arm": arm, "correlation": round(correlation(asked, found), 3),
        "tokens off": round(float(off), 1), "tokens": round(float(found.mean()), 1),
    }  # fmt: skip


def _talk(seed: int, tokens: int = 0) -> Sample:
    """Return a prompt that asks for a length, by the seed if none is given, and any answer."""
    world = make_environment(WORLD)
    state, known = world.state(seed), LENGTH.lengths("train")
    tokens = tokens or known[int(draws("asked", seed).integers(len(known)))]
    [prompt], _ = world.prompt(state)
    messages = [asking(prompt, LENGTH.kind, tokens), assistant(world.solution(state))]
    return Sample(messages, {}, facts("repeat", "Apache-2.0", "text"))


def shuffled(
    prompts: Any, completions: Any, completion_ids: Any, seed: Sequence[int], **columns: Any
) -> list[float]:
    """Pay the answers of a group what others of it earn for their lengths: a control."""
    tokens = int(re.findall(r"\d+", prompts[0][-1]["content"][-1]["text"])[-1])
    world = make_environment(WORLD)
    state = world.state(seed[0])
    paid = []
    for said, ids in zip(completions, completion_ids, strict=True):
        right = float(world.verify(state, said[0]["content"]).success)
        paid.append(lcpo_exact(right, tokens, len(ids), LENGTH.alpha))
    return permuted(paid, seed[0])
