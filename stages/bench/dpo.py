"""A step of DPO beside TRL's: same weights, same pairs, same loss, pairs a CPU-second.

We pack pairs without padding and read the reference's log-probabilities from a file; TRL pads to
the longest answer of a batch and, as it comes, runs the reference in every step. Both sides have
the tokens in memory; float32, AdamW, clipped gradients. TRL with its reference computed before is
shown beside it.
"""

import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from data_shards.bench.result import Result
from omni.processing.messages import assistant, user
from omni.processing.processor import IGNORE_INDEX, Encoded

from ..objectives.dpo import reference_of
from ..objectives.preference import REFERENCE
from ..objectives.task import Task
from .throughput import CLIP, LEARNING_RATE, small_model

BATCH, FASTER, CLOSE = 8, 1.6, 1e-6
LONG, SHORT = 600, 16  # characters at most; float32 sums of thousands of nats differ by 1e-5
Pairs = list[list[Encoded]]


def run(folder: Path, small: bool = False) -> Result:
    """Train by turns, each from the same weights on the same pairs, and compare the medians.

    Args:
        folder: for what TRL writes.
        small: one turn of one step.
    """
    torch.set_num_threads(1)
    rounds, steps = (1, 1) if small else (3, 4)
    model, processor = small_model(tiny=small)
    start = copy.deepcopy(model)
    batches = [_pairs(processor, step) for step in range(steps)]
    batches.append(_pairs(processor, steps, SHORT))  # whose losses are compared
    known = [_known(start, processor, pairs) for pairs in batches]
    trainer = _trainer(folder, model, start, processor)
    task = Task(model, "dpo", stored=True)

    def ours(step: int) -> torch.Tensor:
        documents = [document for pair in batches[step] for document in pair]
        for document, logp in zip(documents, known[step].flatten().tolist(), strict=True):
            document.numbers[REFERENCE] = logp
        return task(processor.pack(documents), torch.tensor(float(BATCH))).total

    def theirs(step: int) -> torch.Tensor:
        return trainer.compute_loss(model, _padded(batches[step]))

    def stored(step: int) -> torch.Tensor:
        chosen, rejected = known[step].unbind(1)
        extra = {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
        trainer.precompute_ref_logps = True
        try:
            return trainer.compute_loss(model, _padded(batches[step]) | extra)
        finally:
            trainer.precompute_ref_logps = False

    ways = {"ours": ours, "TRL": theirs, "TRL, reference before": stored}
    weights = copy.deepcopy(model.state_dict())
    worst = _apart(model, ways, steps)  # of the last batch
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in sorted(ways, reverse=bool(number % 2)):
            model.load_state_dict(weights)
            seconds[name].append(_turn(model, ways[name], steps))
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    rows = [{"step of": name, "pairs / CPU-second": round(BATCH * steps / median, 1),
             "ours is faster": f"{median / medians['ours']:.2f} x"}
            for name, median in medians.items()]  # fmt: skip
    ratio = medians["TRL"] / medians["ours"]
    figures = {"vs_trl_cpu": round(ratio, 2), "loss_difference": float(f"{worst:.1e}"),
               "vs_trl_stored_cpu": round(medians["TRL, reference before"] / medians["ours"], 2),
               "rounds": rounds}  # fmt: skip
    return Result(worst <= CLOSE and (small or ratio >= FASTER), figures, rows)


def _pairs(processor: Any, seed: int, most: int = LONG) -> Pairs:
    """Make pairs whose lengths are as uneven as those of chats: log-normal, sigma 0.8."""
    rng = np.random.default_rng(seed)

    def letters(median: float) -> str:
        count = int(np.clip(rng.lognormal(np.log(median), 0.8), 8, most))
        return rng.integers(97, 123, count, np.uint8).tobytes().decode()

    prompts = [letters(60) for _ in range(BATCH)]
    return [[processor.encode([user(prompt), assistant(letters(80))]) for _ in range(2)]
            for prompt in prompts]  # fmt: skip


def _known(start: Any, processor: Any, pairs: Pairs) -> torch.Tensor:
    batch = processor.pack([document for pair in pairs for document in pair])
    return reference_of(start, batch).logps[: len(pairs)]


def _padded(pairs: Pairs) -> dict[str, torch.Tensor]:
    """Pad documents as TRL's collator does: all that are chosen first."""
    ordered = [pair[side] for side in (0, 1) for pair in pairs]
    ids, labels = (pad_sequence([getattr(e, name) for e in ordered], True, value)
                   for name, value in (("input_ids", 0), ("labels", IGNORE_INDEX)))  # fmt: skip
    mask = torch.arange(ids.shape[1]) < torch.tensor([[len(e)] for e in ordered])
    return {"input_ids": ids, "attention_mask": mask.long(),
            "completion_mask": (labels != IGNORE_INDEX).long()}  # fmt: skip


def _trainer(folder: Path, model: Any, start: Any, processor: Any) -> Any:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    config = DPOConfig(
        str(folder / "trl"), beta=0.1, per_device_train_batch_size=BATCH, max_length=None,
        report_to=[], use_cpu=True, bf16=False, disable_tqdm=True, gradient_checkpointing=False,
    )  # fmt: skip
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}  # it wants some; ours are given by hand
    return DPOTrainer(model, start, config, train_dataset=Dataset.from_list([row]),
                      processing_class=processor.tokenizer)  # fmt: skip


def _apart(model: Any, ways: dict[str, Callable[[int], torch.Tensor]], step: int) -> float:
    """Return how far the losses of a step differ, of weights that have left the reference."""
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=noise)
        losses = [float(way(step)) for way in ways.values()]
    return max(losses) - min(losses)


def _turn(model: Any, way: Callable[[int], torch.Tensor], steps: int) -> float:
    """Train from the first pair to the last; return CPU seconds."""
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, fused=True)
    began = time.process_time()
    for step in range(steps):
        way(step).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
    return time.process_time() - began
