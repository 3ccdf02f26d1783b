"""Our loop beside transformers.Trainer: same weights, same samples, useful tokens a second."""

import resource
import statistics
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_shards.bench.result import Result

BATCH = 8  # samples that the peer pads to the longest of them
LONGEST, ROUNDS, STEPS = 1024, 5, 12
WINDOW = 32  # few, as a pack that chooses among many takes the long samples first
FASTER, WAIT, PACK, CLOSE = 1.8, 0.02, 0.05, 1e-4
LEARNING_RATE, CLIP = 1e-4, 1.0


class Turn(NamedTuple):
    """What one pass over the samples took."""

    wall: float
    cpu: float
    waited: float = 0.0
    """of `wall`, for the loader, whose thread of this process also joins samples to a row"""
    packed: float = 0.0
    """of `waited`, joining them"""


def run(folder: Path, small: bool = False, delay: float = 0.0) -> Result:
    """Train by turns, each from the same weights on the same samples, and compare the medians.

    The samples are chats of 16 to 1,024 tokens, lengths log-normal as in the text mix of
    `data_shards.bench.lengths` (sigma 1.1) with a median of 110, two fifths of them labels. Both
    sides: float32, SDPA, fused AdamW, clipped gradients, about as many tokens to an update. We
    read shards, decode and tokenise as we go; the peer has its token ids in memory.

    Args:
        folder: for the shards.
        small: one turn of two updates.
        delay: seconds that reading each sample takes longer; to see the bench fail.
    """
    rounds, steps = (1, 2) if small else (ROUNDS, STEPS)
    model, processor = small_model(tiny=small)
    loader = _loader(folder, processor, BATCH * steps * 2, delay)
    packs = [pack for step in islice(loader().plan.steps(), steps) for pack in step.packs]
    samples = _samples(loader(), packs)
    theirs, padded = _peer(folder / "peer", model, processor, samples)
    worst = _loss_difference(model, processor, samples, loader(), steps)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    tokens = sum(len(sample["input_ids"]) for sample in samples)
    contenders: dict[str, Callable[[], Turn]] = {
        "ours": lambda: _ours(model, loader(), steps), "transformers.Trainer": theirs,
    }  # fmt: skip
    turns: dict[str, list[Turn]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in sorted(contenders, reverse=bool(number % 2)):
            model.load_state_dict(weights)
            turns[name].append(contenders[name]())
    us, them = turns.values()
    wall = statistics.median(b.wall / a.wall for a, b in zip(us, them, strict=True))
    cpu = statistics.median(b.cpu / a.cpu for a, b in zip(us, them, strict=True))
    waited = statistics.median(turn.waited / turn.wall for turn in us)
    planned = _seconds(lambda: list(islice(loader().plan.steps(), steps)))
    joined = statistics.median((turn.packed + planned) / turn.wall for turn in us)
    rows = [
        {"loop": name, "useful tokens / s": round(tokens / statistics.median(t.wall for t in all_)),
         "per CPU-second": round(tokens / statistics.median(t.cpu for t in all_)),
         "padding": f"{share:.1%}", "rounds": rounds}
        for (name, all_), share in zip(turns.items(), (0.0, 1 - tokens / padded), strict=True)
    ]  # fmt: skip
    figures = {
        "vs_hf_trainer": round(wall, 2), "vs_hf_trainer_cpu": round(cpu, 2),
        "data_wait": round(waited, 4), "pack_share": round(joined, 4), "padding": 0.0,
        "hf_padding": round(1 - tokens / padded, 3), "loss_difference": float(f"{worst:.1e}"),
        "samples": len(samples), "useful_tokens": tokens,
        "updates": [steps, -(-len(samples) // BATCH)],
    }  # fmt: skip
    ok = wall >= FASTER and waited <= WAIT and joined <= PACK and worst <= CLOSE
    return Result(ok, figures, rows)


def small_model(tiny: bool) -> tuple[Any, Any]:
    """Return a LLaMA of 6 million parameters, a quarter of them words, as in SmolLM2-135M."""
    import torch
    from transformers import LlamaConfig

    from omni import OmniConfig, OmniForConditionalGeneration, OmniProcessor
    from omni.model.forward import load_text_tokenizer

    torch.manual_seed(0)
    width = 64 if tiny else 256
    config = LlamaConfig(
        vocab_size=24 * width, hidden_size=width, intermediate_size=704, num_hidden_layers=6,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    model = OmniForConditionalGeneration(OmniConfig(config))
    return model, OmniProcessor(load_text_tokenizer("tiny:llama"))


def _loader(folder: Path, processor: Any, count: int, delay: float) -> Callable[[], Any]:
    """Write chats; return a function that makes a loader of packs, always the same."""
    from data_shards.index.index import Index
    from data_shards.plan.plan import Plan, PlanConfig
    from data_shards.read.loader import Loader
    from data_shards.shards.sample import Sample
    from data_shards.shards.write import ShardSet
    from omni.processing.messages import assistant, user

    rng = np.random.default_rng(0)
    with ShardSet(folder / "chats") as shards:
        for length in rng.lognormal(4.7, 1.1, count).clip(50, LONGEST - 40).astype(int):
            letters = rng.integers(97, 123, length, np.uint8).tobytes().decode()
            turn = round(0.55 * length)  # and the template's tokens carry no label
            meta = {"source": "bench", "license": "Apache-2.0", "schema": 1}
            shards.add(Sample([user(letters[:turn]), assistant(letters[turn:])], {}, meta))
        shards.commit({})
    source = {"chats": Index.open([f"{folder / 'chats'}/train-*.tar"])}
    lengths = {"chats": source["chats"].lengths(processor)}
    tokens = max(LONGEST, round(BATCH * float(lengths["chats"].tokens.mean())))
    config = PlanConfig({"chats": 1.0}, max_tokens=tokens, window=WINDOW)
    slow = _slow(processor, delay) if delay else processor
    return lambda: Loader(Plan(source, config, lengths), slow, workers=2)


def _slow(processor: Any, delay: float) -> Any:
    encode = processor.encode

    def slowly(messages: list[Any]) -> Any:
        time.sleep(delay)
        return encode(messages)

    processor.encode = slowly
    return processor


def _samples(loader: Any, packs: list[Any]) -> list[dict[str, list[int]]]:
    """Return token ids and labels of all samples of some packs, in the order of the plan."""
    from data_shards.read.batch import rows_of
    from data_shards.read.entry import read_entry

    found = []
    for row in (row for pack in packs for row in rows_of(loader.plan, pack)):
        encoded = loader.processor.encode(read_entry(row.entry).conversation())
        found.append({"input_ids": encoded.input_ids.tolist(), "labels": encoded.labels.tolist()})
    return found


def _peer(
    folder: Path, model: Any, processor: Any, samples: list[dict[str, list[int]]]
) -> tuple[Callable[[], Turn], int]:
    """Return a function that trains for one epoch, and how many tokens its batches have."""
    from transformers import (
        DataCollatorForSeq2Seq,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    collator = DataCollatorForSeq2Seq(processor.tokenizer, padding="longest")
    settings = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=BATCH, num_train_epochs=1,
        optim="adamw_torch_fused", learning_rate=LEARNING_RATE, max_grad_norm=CLIP,
        lr_scheduler_type="constant", logging_strategy="no", save_strategy="no", report_to=[],
        disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False,
    )  # fmt: skip

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter(), cpu_seconds()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            wall, cpu = self.began
            self.turn = Turn(time.perf_counter() - wall, cpu_seconds() - cpu)

    def go() -> Turn:
        clock = Clock()
        trainer = Trainer(model.language_model, settings, collator, samples,  # type: ignore[arg-type]
                          callbacks=[clock])  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return clock.turn

    widths = [max(len(s["input_ids"]) for s in samples[i : i + BATCH])
              for i in range(0, len(samples), BATCH)]  # fmt: skip
    padded = sum(w * len(samples[i * BATCH : (i + 1) * BATCH]) for i, w in enumerate(widths))
    return go, padded


def _ours(model: Any, loader: Any, steps: int) -> Turn:
    """Train for some steps, as `stages.training.trainer` does."""
    import torch

    from stages.objectives.task import Task

    from ..engine.distribute import clip

    task = Task(model, "sft").train()
    optimizer = torch.optim.AdamW(task.parameters(), LEARNING_RATE, weight_decay=0.0, fused=True)
    waited, packed = 0.0, [0.0]
    collate = loader.collate

    def timed(*args: Any) -> Any:
        began = time.perf_counter()
        batch = collate(*args)
        packed[0] += time.perf_counter() - began
        return batch

    loader.collate = timed
    wall, cpu = time.perf_counter(), cpu_seconds()
    batches = iter(loader)
    for _ in range(steps):
        began = time.perf_counter()
        batch, _ = next(batches)
        waited += time.perf_counter() - began
        count = torch.tensor(float(batch.counts["label_tokens"]))
        loss = task(batch.tensors, count).total
        loss.backward()
        clip(task.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
    turn = Turn(time.perf_counter() - wall, cpu_seconds() - cpu, waited, packed[0])
    batches.close()
    return turn


def _loss_difference(
    model: Any, processor: Any, samples: list[Any], loader: Any, steps: int
) -> float:
    """Compare the sum of all losses in packs with transformers' own of padded batches."""
    import torch
    from transformers import DataCollatorForSeq2Seq

    collator, one = DataCollatorForSeq2Seq(processor.tokenizer), torch.tensor(1.0)
    packed = padded = 0.0
    with torch.no_grad():
        for i in range(0, len(samples), BATCH):
            batch = collator(samples[i : i + BATCH])
            padded += float(model.language_model(**batch, num_items_in_batch=one).loss)
        for batch, _ in islice(iter(loader), steps):
            packed += float(model(**batch.tensors, num_items_in_batch=one).loss)
    return abs(packed - padded) / padded


def _seconds(go: Callable[[], Any]) -> float:
    began = time.perf_counter()
    go()
    return time.perf_counter() - began


def cpu_seconds() -> float:
    """Return what this process has used of all cores."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
