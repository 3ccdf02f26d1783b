"""`omni-shards plan`: which shards with which weights, and what an epoch of them is, in words."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from omni.processing.messages import MessageError

from .index.index import VIDEO, Index
from .plan.epoch import NO_REASON, Epoch, Part, fates, survey
from .plan.mixture import PlanConfig
from .plan.plan import Plan
from .read.entry import BadSample, read_entry
from .remote.files import is_url
from .shards.rendering import CONVERSATION, Rendering

_NAMED = re.compile(r"(?:([A-Za-z_][\w-]*)=)?(.+?)(?::(\d+\.?\d*(?:[eE]-?\d+)?))?")


def parse_shards(given: Sequence[str]) -> tuple[dict[str, list[str]], dict[str, float]]:
    """Return the patterns and weights of sources given as `[NAME=]PATTERN[:WEIGHT]`.

    A source without a name is called after its folder; a NAME given twice has more patterns.

    Raises:
        ValueError: two folders of one name, or one name with two weights.
    """
    patterns: dict[str, list[str]] = {}
    weights: dict[str, float] = {}
    for text in given:
        match = _NAMED.fullmatch(text)
        named, pattern, weight = match.groups() if match else (None, text, None)
        name = named or _folder(pattern)
        if name in patterns and not named:
            raise ValueError(f"--shards {text}: there is a source {name!r}; give NAME=PATTERN")
        patterns.setdefault(name, []).append(pattern)
        if weights.setdefault(name, float(weight or 1)) != float(weight or 1):
            raise ValueError(f"--shards {text}: source {name!r} has another weight already")
    return patterns, weights


def _folder(pattern: str) -> str:
    """Name a source after the folder of its shards."""
    path = Path(pattern.partition("?")[0] if is_url(pattern) else pattern).expanduser()
    if path.suffix == ".tar" or "*" in path.name:
        path = path.parent
    return path.resolve().name if not is_url(pattern) else path.name


def load_processor(name: str) -> Any:
    """Load the processor of a checkpoint of ours, or one of text alone with an LLM's tokenizer."""
    from omni import OmniProcessor
    from omni.model.forward import load_text_tokenizer

    if (Path(name) / "processor_config.json").is_file():
        return OmniProcessor.from_pretrained(name)
    return OmniProcessor(load_text_tokenizer(name))


def plan_shards(patterns: Mapping[str, Sequence[str]], processor: Any, config: PlanConfig) -> Plan:
    """Plan sources of shards as a stage would whose objective is sft."""
    sources = {name: Index.open(found) for name, found in patterns.items()}
    lengths = {name: index.lengths(processor) for name, index in sources.items()}
    return Plan(sources, config, lengths)


def survey_plan(
    plan: Plan, processor: Any, ranks: int, steps: int | None, rendering: Rendering = CONVERSATION
) -> Epoch:
    """Survey a plan; samples that the processor cannot encode are explained by it.

    Raises:
        ValueError: it can encode none of a source, so that nothing would ever fill a pack.
    """
    why = partial(_why, plan, processor, rendering)
    for name in plan.names:
        if not plan.lengths[name].tokens.any():
            count, first = fates(plan, name, why)["cannot be encoded"]
            raise ValueError(
                f"source {name!r}: none of its {count:,} samples can be encoded, such as {first}"
            )
    return survey(plan, ranks, steps, why)


def _why(plan: Plan, processor: Any, rendering: Rendering, name: str, row: int) -> str:
    """Ask the processor why it cannot encode a sample, without decoding its media."""
    index = plan.sources[name]
    first, count = int(index.samples["part"][row]), int(index.samples["parts"][row])
    parts = index.parts[first : first + count]
    videos = {index.names[part["name"]]: part for part in parts[parts["kind"] == VIDEO]}
    try:
        for messages in rendering.documents(read_entry(index.entry(row)).row()):
            processor.text_length(messages, videos)
    except (BadSample, MessageError, ValueError) as error:
        return str(error)
    return NO_REASON


def show(epoch: Epoch, console: Console) -> None:
    """Print an epoch for readers."""
    whole, about = epoch.whole, "" if all(part.exact for part in epoch.parts) else "about "
    length = f"{about}{whole:,} steps" if whole else "never ends: a source is never used whole"
    print_ = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    print_(f"an epoch, every sample at least once: {length}; {epoch.steps:,} steps planned")
    table = Table("source", "samples", "asked", "got", "of tokens", "drawn", "epoch in steps")
    for part in epoch.parts:
        table.add_row(part.name, f"{part.samples:,}", f"{part.asked:.2%}", f"{part.got:.2%}",
                      f"{part.of_tokens:.2%}", f"{part.drawn:,}", _steps(part))  # fmt: skip
    console.print(table)
    print_(f"shares are of {epoch.by}, as the mixture weighs them")
    print_(str(epoch.packs))
    padding = 1 - epoch.packs.useful
    print_(f"padding: {padding:.2%}; {int(np.sum(epoch.packs.tokens)):,} tokens in all")
    if epoch.ranks > 1:
        print_(
            f"{epoch.ranks} ranks: the slowest works {epoch.spread:.1%} longer than the mean, "
            f"{epoch.worst:.1%} in the worst step"
        )
    for part in epoch.parts:
        for fate, (number, first) in part.fates.items():
            share = number / part.samples
            print_(f"{part.name}: {fate}: {number:,} ({share:.1%}), the first: {first}")


def _steps(part: Part) -> str:
    if part.epoch is None:
        return "never"
    return f"{part.epoch:,}" if part.exact else f"about {part.epoch:,}"
