"""Our loop beside nanoVLM's on images with text; nothing of it is in this repository.

`python -m stages.bench.nanovlm DIR [--small]`, where DIR is a checkout of huggingface/nanoVLM.
"""

import statistics
import sys
import time
from collections.abc import Callable, Generator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_shards.bench.result import Result, show

from .throughput import CLIP, LEARNING_RATE, cpu_seconds

SEQUENCE = 1024  # tokens of a row of theirs, filled or padded
BATCHES = {2: (8, 1.5), 16: (1, 1.1)}  # rows -> micro-batches to an update, asked ratio
ROUNDS, SAMPLES = 5, 800
SIDE, PATCH, FOLD, ENCODER = 128, 16, 2, {"width": 192, "depth": 4, "heads": 3}
LLM = {"width": 256, "inner": 704, "depth": 6, "heads": 4, "kv_heads": 2, "words": 6144}
Conversation = tuple[bytes, str, str]  # a jpg, a question, an answer


USAGE = """usage: scripts/bench_nanovlm.sh DIR [--small]

DIR: a checkout of nanoVLM: git clone https://github.com/huggingface/nanoVLM DIR"""


class Update(NamedTuple):
    """What one optimizer update took, and its tokens that were not padding."""

    wall: float
    cpu: float
    tokens: int


Peer = Callable[[Path, list[Conversation], int, int], Generator[Update]]
"""folder for a tokenizer, samples, rows of a micro-batch, micro-batches of an update -> updates"""


def run(folder: Path, small: bool = False, *, peer: Peer, delay: float = 0.0) -> Result:
    """Take updates by turns and compare the medians of useful tokens a second.

    Both sides: a ViT of 64 patches, folded to 16 tokens, a LLaMA of 6 million parameters, random
    weights, all of it trained, on the same pictures and texts of log-normal length. Ours does a
    little more: a class token in the ViT and a second layer in the projector. Theirs is its own
    model, packing, collator, optimizer and the body of its loop, fed by its own thread, with one
    change that is in its favour: no bfloat16 autocast, which this kind of CPU only emulates.

    Args:
        folder: for shards and a tokenizer.
        small: one update each, at the first batch size.
        peer: whose updates ours are compared with, `nanovlm` of a checkout.
        delay: seconds by which each of our updates is held up; to see the bench fail.
    """
    samples = _conversations(80 if small else SAMPLES)
    rows, figures, ok = [], {}, True
    for batch, (accumulate, asked) in list(BATCHES.items())[: 1 if small else None]:
        accumulate = 2 if small else accumulate
        ours = _ours(folder / f"{batch}", samples, batch * SEQUENCE, accumulate, delay)
        theirs = peer(folder / "tokenizer", samples, batch, accumulate)
        took: list[tuple[Update, Update]] = []
        for number in range(1 if small else ROUNDS + 1):
            order = (ours, theirs) if number % 2 else (theirs, ours)
            found = {id(go): next(go) for go in order}
            took.append((found[id(ours)], found[id(theirs)]))
        ours.close()
        theirs.close()
        took = took[1:] or took  # the first warms up
        wall, cpu = (_median(took, field) for field in ("wall", "cpu"))
        figures |= {f"vs_nanovlm_{batch}": round(wall, 2), f"vs_nanovlm_{batch}_cpu": round(cpu, 2)}
        ok = ok and wall >= asked
        filled = statistics.median(b.tokens / (batch * accumulate * SEQUENCE) for _, b in took)
        for name, updates in (("ours", [a for a, _ in took]), ("nanoVLM", [b for _, b in took])):
            rows.append({
                "loop": name, "batch": f"{batch} x {SEQUENCE}", "updates": len(updates),
                "useful tokens / s": round(statistics.median(u.tokens / u.wall for u in updates)),
                "per CPU-second": round(statistics.median(u.tokens / u.cpu for u in updates)),
                "padding": "0.0%" if name == "ours" else f"{1 - filled:.1%}",
            })  # fmt: skip
    return Result(ok, figures, rows)


def _median(took: list[tuple[Update, Update]], field: str) -> float:
    """Return the median ratio of our tokens a second to theirs."""
    return statistics.median(
        (a.tokens / getattr(a, field)) / (b.tokens / getattr(b, field)) for a, b in took
    )


def _conversations(count: int) -> list[Conversation]:
    from data_shards.bench.data import picture

    rng = np.random.default_rng(0)
    lengths = rng.lognormal(4.7, 1.1, count).clip(20, SEQUENCE - 128).astype(int)
    letters = [rng.integers(97, 123, n, np.uint8).tobytes().decode() for n in lengths]
    return [(picture(rng, (160, 120)), t[: len(t) // 2], t[len(t) // 2 :]) for t in letters]


def _ours(
    folder: Path, samples: list[Conversation], tokens: int, accumulate: int, delay: float
) -> Generator[Update]:
    """Yield updates on packs of up to so many tokens, each image and text where it belongs."""
    import torch
    from transformers import LlamaConfig

    from data_shards.index.index import Index
    from data_shards.plan.plan import Plan, PlanConfig
    from data_shards.read.loader import Loader
    from data_shards.shards.sample import Sample
    from data_shards.shards.write import ShardSet
    from omni import OmniConfig, OmniForConditionalGeneration, OmniProcessor
    from omni.model.forward import load_text_tokenizer
    from omni.processing.messages import assistant, image, user
    from stages.objectives.task import Task

    from ..engine.distribute import clip

    torch.manual_seed(0)
    processor = OmniProcessor(load_text_tokenizer("tiny:llama"))
    model = OmniForConditionalGeneration(OmniConfig(LlamaConfig(
        vocab_size=LLM["words"], hidden_size=LLM["width"], intermediate_size=LLM["inner"],
        num_hidden_layers=LLM["depth"], num_attention_heads=LLM["heads"],
        num_key_value_heads=LLM["kv_heads"], tie_word_embeddings=True,
    )))  # fmt: skip
    shape = {"img_size": SIDE, "patch_size": PATCH, "embed_dim": ENCODER["width"],
             "depth": ENCODER["depth"], "num_heads": ENCODER["heads"]}  # fmt: skip
    encoder = {"kind": "timm", "architecture": "vit_tiny_patch16_224", "image_size": SIDE,
           "model_args": shape}  # fmt: skip
    projector = {"kind": "patch_concat_mlp", "concat": FOLD}
    model.attach("vision", {"encoder": encoder, "projector": projector}, processor)
    with ShardSet(folder / "shards") as shards:
        for jpg, question, answer in samples:
            meta = {"source": "bench", "license": "Apache-2.0", "schema": 1}
            talk = [user(image("img0.jpg"), question), assistant(answer)]
            shards.add(Sample(talk, {"img0.jpg": jpg}, meta))
        shards.commit({})
    index = Index.open([f"{folder / 'shards'}/train-*.tar"])
    config = PlanConfig({"x": 1.0}, max_tokens=tokens, packs_per_step=accumulate)
    plan = Plan({"x": index}, config, {"x": index.lengths(processor)})
    batches = iter(Loader(plan, processor))  # type: ignore[arg-type]
    task = Task(model, "sft").train()
    optimizer = torch.optim.AdamW(task.parameters(), LEARNING_RATE, fused=True)
    while True:
        wall, cpu, useful = time.perf_counter(), cpu_seconds(), 0
        time.sleep(delay)
        micro = [batch for batch, _ in islice(batches, accumulate)]
        count = torch.tensor(float(sum(batch.counts["label_tokens"] for batch in micro)))
        for batch in micro:
            useful += int(batch.counts["tokens"])
            loss = task(batch.tensors, count).total
            loss.backward()
        clip(task.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # type: ignore[possibly-unbound]
        yield Update(time.perf_counter() - wall, cpu_seconds() - cpu, useful)


def nanovlm(
    checkout: Path, folder: Path, samples: list[Conversation], batch: int, accumulate: int
) -> Generator[Update]:
    """Yield updates of nanoVLM's own parts, with the settings that its config.py ships; a `Peer`.

    Raises:
        ModuleNotFoundError: the checkout needs a package that is not installed.
    """
    import torch

    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    from data.collators import VQACollator  # type: ignore[import-not-found]
    from data.data_utils import synchronized_dataloader_step  # type: ignore[import-not-found]
    from models.config import TrainConfig, VLMConfig  # type: ignore[import-not-found]
    from models.vision_language_model import VisionLanguageModel  # type: ignore

    shipped = TrainConfig()
    tokenizer = _tokenizer(folder, VLMConfig())
    torch.manual_seed(0)
    model = VisionLanguageModel(_config(VLMConfig, str(folder)), load_backbone=False)
    groups = [(model.MP, shipped.lr_mp), (model.vision_encoder, shipped.lr_vision_backbone),
              (model.decoder, shipped.lr_language_backbone)]  # fmt: skip
    optimizer = torch.optim.AdamW([{"params": list(m.parameters()), "lr": lr} for m, lr in groups])
    everything = [p for group in optimizer.param_groups for p in group["params"]]
    rows = _rows(tokenizer, samples, batch, shipped)
    loader = torch.utils.data.DataLoader(
        rows, batch, collate_fn=VQACollator(tokenizer, SEQUENCE), drop_last=True
    )
    batches = synchronized_dataloader_step(loader, False)
    model.train()
    while True:
        wall, cpu, useful = time.perf_counter(), cpu_seconds(), 0
        for given in islice(batches, accumulate):
            mask = given["attention_mask"]
            _, loss = model(given["input_ids"], given["images"], attention_mask=mask,
                            targets=given["labels"])  # fmt: skip
            (loss / accumulate).backward()
            loss.item()
            useful += int(mask.sum())
        torch.nn.utils.clip_grad_norm_(everything, max_norm=shipped.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        yield Update(time.perf_counter() - wall, cpu_seconds() - cpu, useful)


def _config(make: Callable[..., Any], tokenizer: str) -> Any:
    """Shape their model as ours is."""
    return make(
        vit_hidden_dim=ENCODER["width"], vit_inter_dim=4 * ENCODER["width"], vit_patch_size=PATCH,
        vit_img_size=SIDE, vit_n_heads=ENCODER["heads"], vit_n_blocks=ENCODER["depth"],
        lm_hidden_dim=LLM["width"], lm_inter_dim=LLM["inner"], lm_vocab_size=LLM["words"],
        lm_n_heads=LLM["heads"], lm_n_kv_heads=LLM["kv_heads"], lm_n_blocks=LLM["depth"],
        lm_max_length=SEQUENCE, lm_tokenizer=tokenizer, mp_pixel_shuffle_factor=FOLD,
        mp_image_token_length=(SIDE // PATCH // FOLD) ** 2, max_img_size=SIDE,
        vlm_load_backbone_weights=False,
    )  # fmt: skip


def _tokenizer(folder: Path, shipped: Any) -> Any:
    """Return a local byte tokenizer, made by their function and with their tokens."""
    from data.processors import get_tokenizer  # type: ignore[import-not-found]

    from omni.model.forward import load_text_tokenizer

    load_text_tokenizer("tiny:llama").save_pretrained(folder)
    tokenizer = get_tokenizer(str(folder), shipped.vlm_extra_tokens, shipped.lm_chat_template)
    # their label mask counts what transformers 4 returned: a list, where 5 returns a mapping
    tokenizer.apply_chat_template = partial(_templated, tokenizer.apply_chat_template)
    return tokenizer


def _templated(apply: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return apply(*args, **{"return_dict": False, **kwargs})


def _rows(tokenizer: Any, samples: list[Conversation], batch: int, shipped: Any) -> Any:
    """Return their packed rows of `SEQUENCE` tokens, without end."""
    import io

    from data.advanced_datasets import ConstantLengthDataset  # type: ignore[import-not-found]
    from data.datasets import VQADataset  # type: ignore[import-not-found]
    from data.processors import get_image_processor  # type: ignore[import-not-found]
    from PIL import Image

    class Decoding:
        """What `datasets` gives them: a picture is decoded when its row is read."""

        def __len__(self) -> int:
            return len(samples)

        def __getitem__(self, n: int) -> dict[str, Any]:
            jpg, question, answer = samples[n]
            texts = [{"user": question, "assistant": answer}]
            return {"images": [Image.open(io.BytesIO(jpg))], "texts": texts}

    encoder = get_image_processor(SIDE, SIDE, True)
    length = (SIDE // PATCH // FOLD) ** 2
    return ConstantLengthDataset(
        VQADataset(Decoding(), tokenizer, encoder, length), infinite=True, queue_size=8,
        max_sample_length=SEQUENCE, seq_length=SEQUENCE, num_of_sequences=4 * batch,
        max_images_per_example=shipped.max_images_per_example,
        max_images_per_knapsack=shipped.max_images_per_knapsack,
    )  # fmt: skip


def main() -> None:
    """Run the bench; the exit status is 0 if it is ok."""
    words = [word for word in sys.argv[1:] if word != "--small"]
    if len(words) != 1 or not (Path(words[0]) / "models/vision_language_model.py").is_file():
        print(USAGE, file=sys.stderr)
        raise SystemExit(2)
    bench = partial(run, peer=partial(nanovlm, Path(words[0]).resolve()))
    raise SystemExit(0 if show(bench, "--small" in sys.argv) else 1)


if __name__ == "__main__":
    main()
