"""A guard model: how well it judges after reasoning SFT, and what hard pairs add to it.

Hard prompts are held-out ones that the model, asked four times, judges rightly and wrongly. The
control is trained on the same mined pairs with both answers swapped.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from data_shards.bench.result import Result
from data_shards.shards.sample import Sample
from eval.scoring.guard import TASKS, f1, predicted
from omni.generation.settings import Generation

from ..sampling.verdict import is_right
from . import toys

TOKENS = 144
GOOD, GAIN, LOSS = 90.0, 5.0, 1.0  # macro F1 at least; points on the hard set, and over all
SHORT = ["stages.sft.steps=2", "stages.hs_dpo.steps=2"]
Judged = list[tuple[Sample, str]]


def run(folder: Path, small: bool = False, seeds: int = 1) -> Result:
    """Run the recipe guard and its control for each seed.

    Args:
        folder: to work in.
        small: a few steps on few samples; the pairs are made by hand, as nothing is judged rightly.
        seeds: how many.
    """
    ways = ("sft", "hs_dpo", "swapped")
    judged: dict[str, Judged] = {way: [] for way in ways}
    hard: dict[str, list[bool]] = {way: [] for way in ways}
    for seed in range(seeds):
        data, output = folder / f"data-{seed}", folder / f"run-{seed}"
        toys.made(data, ["guard"], 60 if small else 2000, seed)
        if small:
            toys.train("guard", output, data, seed, SHORT, ["sft"])
            pairs = _by_hand(toys.samples(data / "guard", "train"))
            told = [*SHORT, f"sources.hard=[{toys.rewritten(folder / f'hand-{seed}', pairs)}]"]
            toys.train("guard", output, data, seed, told, ["hs_dpo"], output / "sft")
        else:
            toys.train("guard", output, data, seed)
            pairs = toys.samples(output / "sampled" / "hard", "train")
        swapped = [replace(one, chosen=one.rejected, rejected=one.chosen) for one in pairs]
        shards = toys.rewritten(folder / f"swapped-{seed}", swapped)
        told = [*(SHORT if small else ()), f"sources.hard=[{shards}]"]
        control = toys.train("guard", folder / f"control-{seed}", data, seed, told, ["hs_dpo"],
                             output / "sft")  # fmt: skip
        held = toys.samples(data / "guard", most=8 if small else None)
        mixed = _mixed(output / "sft", held, seed)
        for way, checkpoint in zip(
            ways, (output / "sft", output / "hs_dpo", control / "hs_dpo"), strict=True
        ):
            found = toys.asked(checkpoint, held, Generation(max_new_tokens=TOKENS))
            answers = [(one, own.text) for one, [own] in zip(held, found, strict=True)]
            judged[way] += answers
            hard[way] += [_right(*pair) for k, pair in enumerate(answers) if k in mixed]
    return _result(judged, hard, small, seeds)


def _result(
    judged: dict[str, Judged], hard: dict[str, list[bool]], small: bool, seeds: int
) -> Result:
    macro = {way: _macro(found) for way, found in judged.items()}
    share = {way: toys.percent(found) for way, found in hard.items()}
    rows = [{"checkpoint": way, "macro F1 %": macro[way], "all three right %":
             toys.share([_right(*pair) for pair in judged[way]]),
             "on hard ones %": toys.share(hard[way]), "hard": len(hard[way]),
             "n": len(judged[way])} for way in judged]  # fmt: skip
    figures = {"seeds": seeds, **{f"f1_{way}": value for way, value in macro.items()},
               **{f"hard_{way}": value for way, value in share.items()}}  # fmt: skip
    return Result(small or holds(figures), figures, rows)


def holds(figures: Mapping[str, Any]) -> bool:
    """Whether SFT makes a guard, hard pairs a better one, and swapped ones a worse."""
    return (figures["f1_sft"] >= GOOD and figures["hard_hs_dpo"] - figures["hard_sft"] >= GAIN
            and figures["f1_sft"] - figures["f1_hs_dpo"] <= LOSS
            and figures["hard_swapped"] < figures["hard_sft"])  # fmt: skip


def _macro(found: Judged) -> float:
    """Return the mean F1 of the three tasks, on 0 to 100; of a task without positives, 0."""
    each = [f1(task, [(one.meta[line.lower()], predicted(task, text)) for one, text in found])
            for task, line in TASKS.items()]  # fmt: skip
    return round(sum(score or 0.0 for score in each) / len(each), 1)


def _right(sample: Sample, text: str) -> bool:
    return is_right("guard", toys.said(sample), text)


def _mixed(checkpoint: Path, held: list[Sample], seed: int) -> set[int]:
    """Return the numbers of the samples that are judged rightly and wrongly."""
    how = Generation(max_new_tokens=TOKENS, temperature=1.0, n=4, seed=seed + 1)
    verdicts = [
        {_right(one, own.text) for own in several}
        for one, several in zip(held, toys.asked(checkpoint, held, how), strict=True)
    ]
    return {number for number, found in enumerate(verdicts) if len(found) == 2}


def _by_hand(train: list[Sample]) -> list[Sample]:
    """Pair each answer with that of the sample before it, where they differ."""
    both = pairwise(train)
    return [
        Sample(one.messages[:-1], one.parts, {**one.meta, "k_correct": 1, "k_incorrect": k % 3},
               chosen=one.messages[-1:], rejected=other.messages[-1:])
        for k, (one, other) in enumerate(both) if toys.said(one) != toys.said(other)
    ]  # fmt: skip
