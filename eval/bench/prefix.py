"""Circular questions: the picture and the question before the options run once, or four times.

The quickstart's LLM and encoder, the projector untrained, answer the English MMBench row of the
mini suite with pictures of 9 and of 64 tokens. Both ways take turns, in CPU-seconds.
"""

import time
from pathlib import Path
from statistics import median
from typing import Any

from data_shards.bench.result import Result
from omni.generation.settings import Generation

from ..answering.backends.ours import for_model
from ..suites.registry import SUITES
from .life import write_model, write_pictures
from .oracle import official_docs
from .speed import write_checkpoint

LEAST = 1.5  # times, with pictures of 64 tokens
ROW = "mini-mmbench_en"
NEW = 4  # tokens of an answer: a letter, a dot, an end
SIDES = (192, 512)  # pixels


def run(folder: Path, small: bool = False) -> Result:
    """Answer all questions both ways; `small` asks a tiny model, once."""
    data = write_pictures(folder / "data", count=120 if small else 480)
    (spec,) = (row for row in SUITES["mini"].rows if row.name == ROW)
    docs = official_docs(spec, SUITES["mini"].open(data), folder / "work")  # type: ignore[arg-type]
    questions = [messages for messages, _ in docs]
    figures: dict[str, Any] = {"shared_x": [], "identical": True, "answers": len(questions)}
    rows = []
    for side in SIDES[:1] if small else SIDES:
        write = write_model if small else write_checkpoint
        checkpoint = write(folder / f"model{side}", side=side)
        seconds, answers = _race(checkpoint, questions, rounds=1 if small else 2)
        ratio = median(a / b for a, b in zip(seconds[False], seconds[True], strict=True))
        figures["shared_x"].append(round(ratio, 2))
        figures["identical"] &= len(answers) == 1
        rows += [{"image side": side, "what prompts share runs": "once" if sharing else "each time",
                  "CPU-seconds": f"{median(found):.1f}"}
                 for sharing, found in seconds.items()]  # fmt: skip
    return Result(figures["identical"] and figures["shared_x"][-1] >= LEAST, figures, rows)


def _race(
    checkpoint: Path, questions: list[Any], rounds: int
) -> tuple[dict[bool, list[float]], set[tuple[str, ...]]]:
    """Return the CPU-seconds with and without sharing, and all the different lists of answers."""
    from omni.features.cache import FeatureCache
    from omni.generation.answer import prompts
    from omni.load import load

    model, processor = load(checkpoint)
    model.feature_cache = FeatureCache(500 << 20)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    answers = set()
    for number in range(rounds + 1):
        for sharing in (False, True):
            answerer = for_model(model, processor)
            if not sharing:
                answerer.encode = lambda batch: prompts(processor, batch)
            start = time.process_time()
            answers.add(tuple(answerer(questions, Generation(NEW))))
            if number:  # the first round encodes the pictures
                seconds[sharing].append(time.process_time() - start)
    return seconds, answers
