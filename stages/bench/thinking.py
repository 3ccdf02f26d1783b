"""Thinking within a budget: kept by every answer, and worth something.

A model learns to add, one number after the other in its thinking. It is then asked held-out sums
with budgets that force it; and without any, where the same bounds hold for some answers alone.
"Scripted" is a tiny model of random weights, which says anything for ever.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from data_shards.bench.result import Result
from data_shards.shards.sample import Sample
from eval.scoring.compute import Run, control, performance, scaling
from omni import OmniForConditionalGeneration, OmniProcessor
from omni.generation.settings import Completion, Generation
from omni.generation.thinking import find_thinking
from omni.model.forward import load_text_tokenizer

from . import toys

WAIT = "Wait"
BUDGETS = (0, 2, 6, 12, 32)  # most tokens of thinking; a token is a character
FORCED = [{"max": most} for most in BUDGETS] + [
    {"max": 48, "min": 24}, {"max": 64, "ignore_end": 1}, {"max": 64, "ignore_end": 2},
]  # fmt: skip


class Kept(NamedTuple):
    """Of answers with a budget: how many tokens they thought, and which of them keep to it."""

    tokens: list[int]
    right: list[bool]
    broken: int
    """over max, under min or with too few waits without being cut, or empty"""


def run(folder: Path, small: bool = False, seeds: int = 1) -> Result:
    """Run the recipe s1 for each seed and ask it with each budget, and a random model as well.

    Args:
        folder: to work in.
        small: a few steps on few samples, which show nothing but that budgets are kept.
        seeds: how many.
    """
    found: dict[str, list[Kept]] = {}
    free: list[int] = []
    short = ["stages.sft.steps=2"] if small else []
    for seed in range(seeds):
        data = folder / f"data-{seed}"
        toys.made(data, ["sums"], 60 if small else 2000, seed)
        held = toys.samples(data / "sums", most=8 if small else 100)
        real = toys.train("s1", folder / f"run-{seed}", data, seed, short) / "sft"
        for who, checkpoint in (("real", real), ("scripted", _random(folder / "random"))):
            for budget in FORCED:
                kept = _ask(checkpoint, held, budget)
                found.setdefault(f"{who} {_words(budget)}", []).append(kept)
        unforced = toys.asked(real, held, Generation(max_new_tokens=96))
        free += [_thought(one.text) for [one] in unforced]
    return _result(found, free, small, seeds)


def _result(found: dict[str, list[Kept]], free: list[int], small: bool, seeds: int) -> Result:
    rows, runs = [], []
    for name, each in found.items():
        tokens = [n for kept in each for n in kept.tokens]
        right = [one for kept in each for one in kept.right]
        rows.append({"asked": name, "thinking tokens": f"{sum(tokens) / len(tokens):.1f}",
                     "right %": toys.share(right), "n": len(right),
                     "broken": sum(kept.broken for kept in each)})  # fmt: skip
        for budget in BUDGETS:
            if name == f"real {_words({'max': budget})}":
                runs.append(Run(budget, tokens, 0, budget, toys.percent(right)))
    broken = sum(row["broken"] for row in rows)
    points = [(run.mean, run.score) for run in runs]
    unforced = control([Run(budget, free, 0, budget, 0.0) for budget in BUDGETS])
    slope = scaling(points)
    figures: dict[str, Any] = {
        "seeds": seeds, "broken": broken, "control": control(runs), "control_unforced": unforced,
        "scaling_per_1000": None if slope is None else round(1000 * slope, 1),
        "performance": performance(points), "without_thinking": runs[0].score,
        "with_most": runs[-1].score,
    }  # fmt: skip
    return Result(holds(figures, small), figures, rows)


def holds(figures: Mapping[str, Any], small: bool = False) -> bool:
    """Whether budgets are kept, and, unless `small`, are worth points and bind answers at all."""
    kept = not figures["broken"] and figures["control"] == 100
    slope, unforced = figures["scaling_per_1000"], figures["control_unforced"]
    worth = slope is not None and slope > 0 and figures["with_most"] > figures["without_thinking"]
    return kept and (small or (worth and unforced is not None and unforced < 100))


def _ask(checkpoint: Path, held: list[Sample], budget: dict[str, int]) -> Kept:
    how = Generation(max_new_tokens=24, thinking={**budget, "wait": WAIT})
    answers = [one for [one] in toys.asked(checkpoint, held, how)]
    right = [toys.last_number(one.text) == sample.meta["answer"]
             for one, sample in zip(answers, held, strict=True)]  # fmt: skip
    broken = sum(not _keeps(one, budget) for one in answers)
    return Kept([one.thinking for one in answers], right, broken)


def _keeps(answer: Completion, budget: dict[str, int]) -> bool:
    text = answer.text
    at = max((end for _, end in find_thinking(text).spans), default=0)
    cut = answer.thinking == budget["max"]
    fine = answer.thinking <= budget["max"] and bool(text[at:].strip())
    if "min" in budget:
        fine &= cut or answer.thinking >= budget["min"]
    if "ignore_end" in budget:
        fine &= cut or text[:at].count(WAIT) >= budget["ignore_end"]
    return fine


def _thought(text: str) -> int:
    """Return how many characters, each a token, are thinking; one that never ends is all of it."""
    found = find_thinking(text)
    return sum(end - start for start, end in found.spans) - len("<think></think>")


def _random(folder: Path) -> Path:
    model: Any = OmniForConditionalGeneration.from_text("tiny:llama")
    for part in (model, OmniProcessor(load_text_tokenizer("tiny:llama"))):
        part.save_pretrained(folder)
    return folder


def _words(budget: dict[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in budget.items())
