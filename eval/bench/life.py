"""An evaluation that tells which questions it asks.

Its model is tiny and random, but says many things, and other weights say others.
"""

from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from data_shards.bench import forked
from omni.files.jsonl import append_lines, read_lines

from ..answering.answerer import Answerer
from ..answering.backends import open_model
from ..harness import Harness
from ..run import RunRow, evaluate, run_here

ROWS = ("mini-realworldqa", "category")
BATCH = 4


def write_model(folder: Path, seed: int = 0, side: int = 48) -> Path:
    """Save a random model; its head is not tied to its embedding, which would only repeat.

    It sees images of `side` x `side` pixels.
    """
    import torch

    from omni import OmniForConditionalGeneration, OmniProcessor
    from omni.model.forward import load_text_tokenizer

    model = OmniForConditionalGeneration.from_text("tiny:llama")
    processor = OmniProcessor(load_text_tokenizer("tiny:llama"))
    torch.manual_seed(seed)
    encoder = {"kind": "timm", "architecture": "test_vit", "image_size": side,
               "model_args": {"img_size": side}}  # fmt: skip
    spec = {"encoder": encoder, "projector": {"kind": "patch_concat_mlp"}}
    model.attach("vision", spec, processor)
    model.config.text_config.tie_word_embeddings = False
    model.config.tie_word_embeddings = False
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(torch.randn(head.weight.shape))  # type: ignore[union-attr]
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_pictures(folder: Path, seed: int = 0, count: int = 120, heldout: float = 0.4) -> Path:
    """Write the held-out ones of `count` procedural scenes; another seed shows others.

    They are of eight kinds and need no download.
    """
    from data_shards.shards.write import write_shards
    from data_shards.sources.base import Build
    from data_shards.sources.demo.shapes import Shapes

    made = Shapes(count=count, variants=1, turns=1).generate(Build(seed=seed, heldout=heldout))
    write_shards([sample for sample in made if sample.split == "heldout"], folder / "shapes")
    return folder


def live(
    model: Path,
    data: Path,
    out: Path,
    ask: Callable[[list[str]], None],
    limit: int = 40,
    controls: bool = True,
    run_row: RunRow = run_here,
) -> dict[str, Any]:
    """Evaluate; `ask` hears the digests of every batch before it is answered."""
    opened = open_model(str(model), max_batch=BATCH)
    _watch(opened.answerer, ask)
    return evaluate(
        opened.answerer, opened.weights, "mini", data, out,
        rows=ROWS, limit=limit, controls=controls, run_row=run_row,
    )  # fmt: skip


def _watch(answerer: Answerer, ask: Callable[[list[str]], None]) -> None:
    answer_batch = answerer.answer_batch

    def telling(batch: Any, generation: Any, keys: Any) -> Any:
        ask(keys)
        return answer_batch(batch, generation, keys)

    answerer.answer_batch = telling


def start(model: Path, data: Path, out: Path, log: Path) -> BaseProcess:
    """Start `live` as a process of its own, which appends what it asks to `log`."""
    return forked.start(_told, (model, data, out, log), 1, out.parent)[0]


def _told(model: Path, data: Path, out: Path, log: Path) -> None:
    with Harness("mini", data) as harness:  # as the command does
        live(model, data, out, lambda batch: append_lines(log, [{"batch": batch}]),
             run_row=harness.run)  # fmt: skip


def asked(log: Path) -> list[list[str]]:
    """Return the batches in a log; one that is being written is not in it yet."""
    return [row["batch"] for row in read_lines(log)]
