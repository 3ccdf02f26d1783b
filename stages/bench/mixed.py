"""Two ranks, one with text and one with images and audio: no hang, and gradients of one process."""

from pathlib import Path

from data_shards.bench.forked import start, wait
from data_shards.bench.result import Result

from .life import recipe_of, write_sources

STEPS, CLOSE = 20, 1e-5
SOURCES = ("text", "both")  # of rank 0 and of rank 1


def run(folder: Path, small: bool = False, fault: str = "") -> Result:
    """Compare the gradients of every step, under DDP and under FSDP2, with those of one process.

    Args:
        folder: to work in.
        small: DDP alone.
        fault: "zero_touch" takes away what ties an absent modality into the graph.
    """
    import torch

    from ..doctor.comparison import gradient_difference

    write_sources(folder, 8)
    _start(folder, 1, "none", fault)
    alone, _ = torch.load(folder / "none-1.pt")
    rows = []
    for sharding in ("none",) if small else ("none", "full"):
        _start(folder, 2, sharding, fault)
        found, here = torch.load(folder / f"{sharding}-2.pt")
        worst = max(gradient_difference(b, a)[0] for a, b in zip(alone, found, strict=True))
        rows.append({"sharding": sharding, "steps": len(found), "parameters": len(found[0]),
                     "weights on a rank": f"{here:.0%}",
                     "largest difference of a gradient": float(f"{worst:.1e}")})  # fmt: skip
    worst = max(row["largest difference of a gradient"] for row in rows)
    whole = all(row["steps"] == STEPS for row in rows)
    return Result(whole and worst <= CLOSE, {"steps": STEPS, "gradient_difference": worst}, rows)


def _start(folder: Path, ranks: int, sharding: str, fault: str) -> None:
    wait(start(rank, (folder, sharding, fault), ranks, folder), folder)


def rank(folder: Path, sharding: str, fault: str) -> None:
    """Be one rank: take `STEPS` steps on batches of one modality, and write the gradients."""
    import torch
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    from data_shards.index.index import Index
    from data_shards.read.entry import read_entry
    from omni import OmniForConditionalGeneration
    from stages.objectives.task import Task

    from ..engine.distribute import distribute, full_tensor, gradients
    from ..trainable.patterns import set_trainable
    from ..training.prepare import make_model

    accelerator = Accelerator(cpu=True)
    set_seed(0)
    if fault == "zero_touch":
        OmniForConditionalGeneration.zero_touch = lambda self, name: 0.0  # type: ignore[assignment]
    recipe = recipe_of(folder)
    model, processor = make_model(recipe, recipe.stages[0], None, accelerator)
    set_trainable(model, {"*": 1.0})
    batches = []
    for name in SOURCES:
        index = Index.open([f"{folder / name}/train-*.tar"])
        rows = [read_entry(index.entry(row)).conversation() for row in range(3)]
        batches.append(processor.pack([processor.encode(row) for row in rows]))
    count = sum(int((batch["labels"] >= 0).sum()) for batch in batches)
    ranks = accelerator.num_processes
    mine = batches if ranks == 1 else [batches[accelerator.process_index]]
    task = distribute(Task(model, "sft"), accelerator, sharding)
    optimizer = torch.optim.SGD(task.parameters(), lr=0.01)
    found = []
    task.train()
    for _ in range(STEPS):
        for i, batch in enumerate(mine):
            with gradients(task, accelerator, last=i == len(mine) - 1):
                loss = task(batch, torch.tensor(count / ranks)).total
                loss.backward()
        # a parameter that nothing used has no gradient in one process and zeros in several
        found.append({name: full_tensor(torch.zeros_like(p) if p.grad is None else p.grad).clone()
                      for name, p in model.named_parameters()})  # fmt: skip
        optimizer.step()
        optimizer.zero_grad()
    if accelerator.is_main_process:
        here = sum(getattr(p, "_local_tensor", p).numel() for p in model.parameters())
        torch.save((found, here / model.num_parameters()), folder / f"{sharding}-{ranks}.pt")
    if ranks > 1:
        torch.distributed.destroy_process_group()
