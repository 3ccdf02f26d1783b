"""What benches of learning share: toy shards, a shipped recipe that is run on them, its answers."""

import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch

from data_shards.build import build
from data_shards.read.encode import Encode
from data_shards.read.entry import read_shard
from data_shards.shards.rendering import PAIR
from data_shards.shards.sample import Sample
from data_shards.shards.shard import find_shards
from data_shards.shards.write import write_shards
from data_shards.sources.demo.toy import Toy
from eval.scoring.statistics import wilson
from omni.generation.answer import complete, prompts
from omni.generation.settings import Completion, Generation
from omni.load import load
from omni.processing.identity import identify
from omni.processing.messages import fill

from ..engine.distribute import join, to_device
from ..objectives.dpo import reference_of
from ..recipe.read import load_recipe
from ..training.chain import run_recipe

TOGETHER = 32  # prompts, or documents, of a batch


def made(folder: Path, tasks: Iterable[str], count: int, seed: int) -> None:
    """Build FOLDER/TASK of each task."""
    for task in tasks:
        build(Toy(task, count), folder / task, seed=seed)


def train(
    name: str, output: Path, data: Path, seed: int, overrides: Sequence[str] = (),
    keep: Sequence[str] = (), text: Path | None = None,
) -> Path:  # fmt: skip
    """Run a shipped recipe, as `omni-train` does, on one thread; return its folder.

    Args:
        name: of the recipe.
        output: the run's folder.
        data: what stands for data/toy in the recipe.
        seed: of the recipe, and of what it samples.
        overrides: further changes of it.
        keep: names of the stages that are run; all, if empty.
        text: the checkpoint to start from instead.
    """
    torch.set_num_threads(1)
    shown = load_recipe(name)
    changes = [f"output={output}", f"seed={seed}", "trackers=[]", "save_seconds=100000"]
    for source, entry in shown.sources.items():
        if isinstance(entry, list):
            changes.append(f"sources.{source}=[{data / source}]")
        else:
            changes.append(f"sources.{source}.sample.seed={seed}")
            where = [str(data / Path(path).name) for path in entry["sample"]["prompts"]]
            changes.append(f"sources.{source}.sample.prompts={where}")
    recipe = load_recipe(name, [*changes, *overrides])
    recipe.text = str(text or recipe.text)
    recipe.stages = [stage for stage in recipe.stages if not keep or stage.name in keep]
    output.mkdir(parents=True, exist_ok=True)
    with redirect_stdout(sys.stderr):
        run_recipe(recipe, join(recipe.precision))
    return output


def samples(folder: Path, split: str = "heldout", most: int | None = None) -> list[Sample]:
    """Return the first samples of a split."""
    found = [one for path in find_shards(f"{folder}/{split}-*.tar") for one in read_shard(path)]
    return found[:most]


def rewritten(folder: Path, found: Sequence[Sample]) -> Path:
    """Write train samples as a folder of shards, for a control; return it."""
    write_shards(found, folder)
    return folder


def asked(
    checkpoint: Path, found: Sequence[Sample], generation: Generation
) -> list[list[Completion]]:
    """Return the answers of a checkpoint to what samples ask: up to their first assistant turn."""
    model, processor = load(checkpoint)
    answers = []
    for some in _cut(found, TOGETHER):
        shown = [fill(_question(one), one.parts) for one in some]
        keys = [identify(messages).whole for messages in shown]
        given = complete(model, processor, prompts(processor, shown), generation, keys=keys)
        answers += _cut(given, generation.n)
    return answers


def likelihoods(checkpoint: Path, pairs: Sequence[Sample]) -> torch.Tensor:
    """Return the log-probabilities (N, 2) of the chosen and rejected answers of preferences."""
    model, processor = load(checkpoint)
    encode, found = Encode(processor, PAIR), []
    for some in _cut(pairs, TOGETHER // 2):
        documents = [document for one in some for document in encode.sample(one)]
        batch = to_device(processor.pack(documents), torch.device("cpu"), model.host_inputs())
        found.append(reference_of(model, batch).logps[: len(some)])
    return torch.cat(found)


def said(sample: Sample) -> str:
    """Return the text of a sample's answer."""
    return "".join(part.get("text", "") for part in sample.messages[-1]["content"])


def last_number(text: str) -> str:
    """Return the last number of a text, or ""."""
    return (re.findall(r"\d+", text) or [""])[-1]


def share(hits: Sequence[bool]) -> str:
    """Return a share in per cent with its 95 % interval, as a cell of a table."""
    low, high = wilson(sum(hits), len(hits))
    return f"{100 * sum(hits) / max(1, len(hits)):.0f} ({low:.0f} to {high:.0f})"


def percent(hits: Sequence[bool]) -> float:
    """Return a share in per cent."""
    return round(100 * sum(hits) / max(1, len(hits)), 1)


def _question(sample: Sample) -> list[Any]:
    roles = [message["role"] for message in sample.messages]
    return sample.messages[: roles.index("assistant") if "assistant" in roles else None]


def _cut(values: Sequence[Any], size: int) -> list[Any]:
    return [values[n : n + size] for n in range(0, len(values), size)]
