"""Preflight: is what will be trained what the recipe means? Run on the recipe's own samples."""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import torch

from data_shards.loader import Encode, documents
from data_shards.plan import Plan
from data_shards.shard import BadSample
from omni.processor import IGNORE_INDEX, Encoded

from .lora import adapt
from .new_tokens import add_tokens
from .objectives.sft import sft
from .prepare import load_parent, make_plan
from .recipe import Recipe, StageConfig
from .trainable import set_trainable

TOLERANCE = 1e-5


class Comparison(NamedTuple):
    """Losses per label, and the largest difference between two gradients of a parameter.

    The difference is relative where the parameter's largest gradient exceeds 1.
    """

    packed: float
    alone: float
    difference: float
    parameter: str

    @property
    def ok(self) -> bool:
        """Tell whether packing changed nothing but the rounding."""
        loss = abs(self.packed - self.alone) / max(1.0, abs(self.alone))
        return loss <= TOLERANCE and self.difference <= TOLERANCE  # NaN is not


def packed_equals_unpacked(
    model: Any, processor: Any, encoded: list[Encoded], pack: Any = None, dtype=torch.float32
) -> Comparison:
    """Compare a packed row with its documents one by one, without dropout.

    Args:
        model: is left in `dtype` and without gradients; what does not train is left out.
        processor: packs.
        encoded: at least two documents with labels.
        pack: how to join documents to a row; default `processor.pack`.
        dtype: float32 rounds more than `TOLERANCE` in a deep model; float64 tells that apart.

    Raises:
        ValueError: no document has labels, or nothing trains.
    """
    labels = sum(int((e.labels[1:] != IGNORE_INDEX).sum()) for e in encoded)
    if not labels or not any(p.requires_grad for p in model.parameters()):
        raise ValueError("nothing to compare: no labels, or nothing trains")
    pack, was_training = pack or processor.pack, model.training
    model.to(dtype).eval()
    try:
        packed, together = _gradients(model, [pack(encoded)], labels)
        alone, apart = _gradients(model, [processor.pack([e]) for e in encoded], labels)
    finally:
        model.train(was_training)
        model.zero_grad()
    largest, where = 0.0, ""
    for name in apart.keys() | together.keys():
        if name not in apart or name not in together:
            return Comparison(packed, alone, float("inf"), name)
        difference = float((together[name] - apart[name]).abs().max())
        difference /= max(1.0, float(apart[name].abs().max()))
        if not difference <= largest:  # NaN too
            largest, where = difference, name
    return Comparison(packed, alone, largest, where)


def _gradients(
    model: Any, batches: list[dict[str, torch.Tensor]], labels: int
) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    total, count = 0.0, torch.tensor(float(labels), device=model.device)
    for batch in batches:
        loss, _ = sft(model, {k: v.to(model.device) for k, v in batch.items()}, count)
        loss.backward()
        total += float(loss.detach())
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return total, found


def draw(plan: Plan, processor: Any, count: int) -> tuple[list[Encoded], Counter, list[str]]:
    """Encode the plan's first documents, equally many of every source.

    Returns:
        At most `count` documents, how many are of which source, and what was bad.
    """
    share = -(-count // len(plan.names))
    encode, found, bad = Encode(processor), [], []
    sources: Counter[str] = Counter()
    seen = 0
    for step in plan.steps():
        for document in (d for pack in step.packs for d in documents(plan, pack)):
            seen += 1
            if sources[document.item.source] < share and len(found) < count:
                try:
                    found.append(encode(document))
                    sources[document.item.source] += 1
                except BadSample as error:
                    bad.append(str(error))
        if len(found) >= count or seen > 100 * count:
            return found, sources, bad
    raise AssertionError("a plan has no end")


def examine(recipe: Recipe, stage: StageConfig, count: int) -> bool:
    """Check packing on `count` samples of a stage, print what was found, return if it is well.

    Raises:
        ValueError: the recipe's data, weights or patterns are wrong; says how.
    """
    before = recipe.stages[: recipe.stages.index(stage)]
    done = [s for s in before if (Path(recipe.output) / s.name / "stage.json").is_file()]
    parent = Path(recipe.output) / done[-1].name if done else None
    model, processor = load_parent(recipe, parent)
    for later in [*before[before.index(done[-1]) + 1 if done else 0 :], stage]:
        for name, spec in later.attach.items():
            model.attach(name, spec, processor)
        add_tokens(model, processor, later.new_tokens)
    set_trainable(model, adapt(model, stage, processor))
    encoded, sources, bad = draw(make_plan(recipe, stage, processor, 1), processor, count)
    for reason in bad:
        print(f"bad: {reason}")
    print(f"{stage.name}: {len(encoded)} documents ({', '.join(sources)}), "
          f"{sum(map(len, encoded)):,} tokens; weights of {parent or recipe.text}")  # fmt: skip
    result = _compare(model, processor, encoded, torch.float32)
    if not result.ok:
        print("more than float32 of a shallow model rounds: is it rounding? again in float64")
        result = _compare(model, processor, encoded, torch.float64)
    print("ok: packed equals unpacked" if result.ok else "WRONG: packing changes the training")
    return result.ok


def _compare(model: Any, processor: Any, encoded: list[Encoded], dtype: Any) -> Comparison:
    result = packed_equals_unpacked(model, processor, encoded, dtype=dtype)
    print(
        f"{dtype}, tolerance {TOLERANCE:g}: loss per label {result.packed:.7f} packed, "
        f"{result.alone:.7f} one by one; gradients differ by {result.difference:.1e} at most, in "
        f"{result.parameter or 'none'}"
    )
    return result
