"""omni-train doctor: print what was found about each stage, and whether to go."""

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
from rich.console import Console
from rich.text import Text

from ..engine.distribute import join
from ..objectives import kind_of
from ..recipe.places import Places
from ..recipe.schema import Recipe, StageConfig
from ..training.chain import check_machine
from ..training.preflight import find_mistakes
from .comparison import Comparison
from .examine import Examination, Source, examine, spans, start_of
from .forecast import Memory, size

BARS = "▁▂▃▄▅▆▇█"
BINS = 24
STYLES = {"prompt": "dim", "media": "cyan", "label": "bold green"}
LONGEST = 400  # characters of a prompt or an answer that are shown


def diagnose(recipe: Recipe, places: Places, stages: Sequence[StageConfig], count: int) -> bool:
    """Examine stages on `count` samples of each of their sources; print all, and the verdict.

    What a run would refuse before its first stage (`check_machine`, `find_mistakes`) is found
    first, and a stage with such a mistake is not examined further.

    Returns:
        Whether nothing speaks against training them.
    """
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    reasons, examined = [], []
    try:
        check_machine(recipe, join(recipe.precision))
    except ValueError as error:
        reasons.append(str(error))
        console.print(Text(f"against it: {error}", "red"))
    with console.status("looking for mistakes"):
        _, between = start_of(recipe, stages[0])
        mistakes = find_mistakes(recipe, places, [*between, *stages],
                                 checked={stage.name for stage in stages})  # fmt: skip
    early = [m for m in mistakes if m.stage in {stage.name for stage in between}]
    for stage in stages:
        own = [*early, *(m for m in mistakes if m.stage == stage.name)]
        with console.status(f"examining {stage.name}"):
            if own:
                found = Examination(stage.name, reasons=[f"{m.reason} ({m.where})" for m in own])
            elif not stage.rollout:
                found = examine(recipe, stage, count)
        console.rule(
            f"{stage.name}: {kind_of(stage.objective)}, {stage.steps:,} steps", align="left"
        )
        if stage.rollout and not own:
            console.print("its prompts can be asked; the answers are drawn as it trains")
            continue
        show(found, recipe, console)
        examined.append(found)
        reasons += [f"{stage.name}: {reason}" for reason in found.reasons]
    if len(examined) > 1 and all(found.seconds for found in examined):
        console.print(f"\n{_sum(examined)}")
    console.print(Text("no-go: " + "; ".join(reasons) if reasons else "go",
                       style="bold red" if reasons else "bold green"))  # fmt: skip
    return not reasons


def show(found: Examination, recipe: Recipe, console: Console) -> None:
    """Print what was found about a stage; what could not be found is left out."""
    if found.start:
        console.print(f"starts from {found.start}", markup=False)
    for name, origin in found.parts.items():
        console.print(f"  {name}: {origin}", markup=False)
    if found.trains:
        console.print(found.trains, markup=False)
    for source in found.sources:
        _show_source(source, found, console)
    if found.packs:
        console.print(f"\n{found.packs}")
    for name, (placeholders, features) in found.counts.items():
        console.print(f"{name}: {placeholders:,} placeholders, {features:,} features")
    if found.memory:
        console.print(_memory(found.memory))
    if found.seconds:
        console.print(_time(found, recipe))
    for result in found.comparisons:
        console.print(
            f"packed equals unpacked, {result.dtype}: loss per label {result.packed:.7f} packed, "
            f"{result.alone:.7f} one by one; gradients differ by {result.difference:.1e} at most"
            f"{f', in {result.parameter}' if result.parameter else ''}: "
            + _equal(result, last=result is found.comparisons[-1])
        )
    for note in found.notes:
        console.print(Text(f"note: {note}", "yellow"))
    for reason in found.reasons:
        console.print(Text(f"against it: {reason}", "red"))


def _show_source(source: Source, found: Examination, console: Console) -> None:
    """Print lengths, what is not used, and one sample with its labels."""
    tokens = source.tokens
    epochs = source.used / len(tokens)
    console.print(
        f"\n{source.name}: {len(tokens):,} samples, licence {source.license or 'unknown'}; "
        f"{source.used:,.0f} drawn in the stage, each {epochs:.2g} times", markup=False,
    )  # fmt: skip
    console.print(
        f"  lengths {histogram(tokens)} {tokens.min():,} to {tokens.max():,} tokens, "
        f"median {np.median(tokens):,.0f}"
    )
    for fate, (number, example) in source.fates.items():
        share = number / len(tokens)
        console.print(f"  {fate}: {number:,} ({share:.1%}), the first: {example}", markup=False)
    documents = [document for sample in source.drawn for document in sample]
    labels = sum(int((e.labels >= 0).sum()) for e in documents)
    whole = sum(map(len, documents))
    console.print(
        f"  {len(source.drawn)} drawn and encoded"
        + (f", {labels / whole:.0%} of their tokens are labels" if whole else "")
        + (f"; {len(source.bad)} BAD" if source.bad else "")
    )
    for bad in source.bad[:3]:
        console.print(f"  bad: {bad}", style="red", markup=False)
    if source.drawn:
        console.print(masked(spans(source.drawn[0][0], found.processor), console))


def histogram(values: np.ndarray) -> str:
    """Draw how often values occur, from the least to the largest, as a line of bars."""
    counts, _ = np.histogram(values, bins=BINS)
    heights = np.ceil(counts / counts.max() * len(BARS)).astype(int)
    return "".join(BARS[height - 1] if height else " " for height in heights)


def masked(parts: list[tuple[str, str]], console: Console) -> Text:
    """Colour labels, prompt and media; without colours, labels stand in angle quotes."""
    text = Text("  ")
    for kind, words in parts:
        if len(words) > LONGEST:
            words = f"{words[: LONGEST // 2]} [...] {words[-LONGEST // 2 :]}"
        words = words.replace("\n", "\\n")
        plain = kind == "label" and not console.color_system
        text.append(f"«{words}»" if plain else words, STYLES[kind])
    return text


def _memory(memory: Memory) -> str:
    parts = {name: of for name, of in memory._asdict().items() if name != "available"}
    return (
        f"memory: {size(memory.needed)} of {size(memory.available)} available ("
        + ", ".join(f"{name} {size(of)}" for name, of in parts.items() if of) + ")"
    )  # fmt: skip


def _time(found: Examination, recipe: Recipe) -> str:
    seconds, (empty, full) = found.seconds, found.total
    assert seconds
    line = f"time: {_clock(empty)}"
    per_pack = f"a pack {seconds.first:.3g} s"
    if seconds.cached:
        line += f" with an empty feature cache ({recipe.feature_cache}), {_clock(full)} with a full"
        per_pack += f", with cached features {seconds.again:.3g} s"
    return f"{line} ({per_pack}, an update {seconds.update:.3g} s; one process, no data waits)"


def _equal(result: Comparison, last: bool) -> str:
    if result.ok:
        return "ok"
    return "NOT EQUAL" if last else "more than rounding should be, so once more in float64"


def _sum(examined: Sequence[Examination]) -> str:
    """Say what all stages take together; the most memory is that of one of them."""
    seconds = sum(found.total[0] for found in examined)
    most = max(found.memory.needed for found in examined if found.memory)
    return f"all {len(examined)} stages: {_clock(seconds)}, at most {size(most)} of memory"


def _clock(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))
