"""Our loop beside MiniMind-O's on text, images and codes of speech; nothing of it is here.

`python -m stages.bench.minimind_o DIR [--small]`, DIR being a checkout of jingyaogong/minimind-o.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from data_shards.bench.result import Result, show

from .nanovlm import Update
from .throughput import CLIP, LEARNING_RATE, cpu_seconds

ROW = 512  # tokens to which their script pads every row
BATCH, ROUNDS, SAMPLES = 8, 5, 400
WIDTH, THINKER, TALKER, HEADS, KV_HEADS, INNER, WORDS = 256, 4, 2, 8, 4, 832, 6400
SIDE, PATCH = 256, 32
EYE: dict[str, Any] = {"hidden_size": 192, "intermediate_size": 384, "num_hidden_layers": 2,
                       "num_attention_heads": 4}  # fmt: skip
BOOKS, CODES, RATE = 8, 2048, 24_000
SHIPPED, CUT = 2.0, 1.2  # times their useful tokens a CPU-second
CODEC = {"model_type": "mimi", "hidden_size": 16, "num_filters": 4, "codebook_size": CODES,
         "codebook_dim": 16, "vector_quantization_hidden_dimension": 16, "num_hidden_layers": 1,
         "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8,
         "intermediate_size": 32, "upsample_groups": 16}  # fmt: skip

USAGE = """usage: scripts/bench_minimind_o.sh DIR [--small]

DIR: a checkout of MiniMind-O: git clone https://github.com/jingyaogong/minimind-o DIR"""


class Talk(NamedTuple):
    """A question, a picture or none, an answer, and how many frames of codes it is said in."""

    question: str
    jpg: bytes
    answer: str
    frames: int


Loops = dict[str, Generator[Update]]


def run(folder: Path, small: bool = False, *, peer: Callable[..., Loops], tokenizer: str) -> Result:
    """Take updates by turns and compare the medians of useful tokens a CPU-second.

    Both sides: 6 LLM layers of 256 (theirs in two stacks, 4 and 2), all trained, a frozen SigLIP of
    64 patches for half of the samples, a projector, and 8 books of 2,048 codes at 12.5 Hz for every
    answer; cross-entropy of text and of codes, AdamW, their tokenizer. A useful token is one of
    text or of a picture, or a frame. Theirs is its own model and dataset, and what its loop does,
    by turns as shipped, with every row padded to 512, and with a batch cut to its longest row. Ours
    does more: a depth transformer says the books of a frame one after the other, and a small Mimi
    makes the codes of sound in every step, where theirs finds them in its file.

    Args:
        folder: for shards and a parquet file.
        small: one update each.
        peer: whose updates ours are compared with, `minimind` of a checkout.
        tokenizer: a folder with theirs.
    """
    talks = _talks(40 if small else SAMPLES)
    loops: Loops = {"ours": _ours(folder, talks, tokenizer), **peer(folder, talks)}
    took: dict[str, list[Update]] = {name: [] for name in loops}
    for number in range(1 if small else ROUNDS + 1):
        names = list(loops)
        for name in names if number % 2 else reversed(names):
            took[name].append(next(loops[name]))
    for loop in loops.values():
        loop.close()
    took = {name: found[1:] or found for name, found in took.items()}  # the first warms up
    ours, shipped, cut = (_speed(found, "cpu") for found in took.values())
    figures = {"vs_shipped": round(ours / shipped, 2), "vs_cut": round(ours / cut, 2)}
    rows = [
        {"loop": name, "useful tokens / CPU-second": round(_speed(found, "cpu")),
         "/ second": round(_speed(found, "wall")),
         "useful tokens of an update": round(statistics.mean(u.tokens for u in found))}
        for name, found in took.items()
    ]  # fmt: skip
    ok = figures["vs_shipped"] >= SHIPPED and figures["vs_cut"] >= CUT
    return Result(small or ok, figures, rows)


def _speed(found: Sequence[Update], field: str) -> float:
    return statistics.median(update.tokens / getattr(update, field) for update in found)


def _talks(count: int) -> list[Talk]:
    from data_shards.bench.data import picture

    rng = np.random.default_rng(0)

    def letters(most: int) -> str:
        size = int(np.clip(rng.lognormal(3.6, 0.7), 8, most))
        return rng.integers(97, 123, size, np.uint8).tobytes().decode()

    return [Talk(letters(300), picture(rng, (160, 120)) if n % 2 else b"", letters(300),
                 int(np.clip(rng.lognormal(3.4, 0.6), 5, 150))) for n in range(count)]  # fmt: skip


def _ours(folder: Path, talks: Sequence[Talk], tokenizer: str) -> Generator[Update]:
    """Yield updates on packs of as many tokens as their rows hold, filled."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig

    from data_shards.index.index import Index
    from data_shards.plan.plan import Plan, PlanConfig
    from data_shards.read.loader import Loader
    from omni import OmniConfig, OmniForConditionalGeneration, OmniProcessor
    from stages.objectives.task import Task

    from ..engine.distribute import clip

    torch.manual_seed(0)
    processor = OmniProcessor(AutoTokenizer.from_pretrained(tokenizer))
    model = OmniForConditionalGeneration(OmniConfig(LlamaConfig(
        vocab_size=WORDS, hidden_size=WIDTH, intermediate_size=INNER, tie_word_embeddings=True,
        num_hidden_layers=THINKER + TALKER, num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
    )))  # fmt: skip
    shape = {"model_type": "siglip_vision_model", "image_size": SIDE, "patch_size": PATCH, **EYE}
    eye = {"kind": "transformers", "model_config": shape}
    projector = {"kind": "patch_concat_mlp", "concat": 1}
    model.attach("vision", {"encoder": eye, "projector": projector}, processor)
    codec = {"kind": "transformers_codec", "model_config": CODEC, "books": BOOKS}
    model.attach("speech", {"encoder": codec, "projector": {"kind": "codes"}}, processor)
    model.attach("talk", {"head": {"kind": "depth", "layers": 1, "shared": True}}, processor)
    model.encoders.requires_grad_(False)
    _write(folder / "shards", talks)
    index = Index.open([f"{folder / 'shards'}/train-*.tar"])
    config = PlanConfig({"x": 1.0}, max_tokens=BATCH * ROW // 4, packs_per_step=1)
    plan = Plan({"x": index}, config, {"x": index.lengths(processor)})
    batches = iter(Loader(plan, processor))  # type: ignore[arg-type]
    task = Task(model, "speak").train()
    trained = [p for p in task.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, LEARNING_RATE, fused=True)
    while True:
        wall, cpu = time.perf_counter(), cpu_seconds()
        batch, _ = next(batches)
        count = torch.tensor(float(batch.counts["label_tokens"]))
        loss = task(batch.tensors, count).total
        loss.backward()
        clip(trained, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        yield Update(time.perf_counter() - wall, cpu_seconds() - cpu, int(batch.counts["tokens"]))


def _write(folder: Path, talks: Sequence[Talk]) -> None:
    """Write shards of talks; their speech is noise of as many frames."""
    import io

    import soundfile

    from data_shards.shards.sample import Sample
    from data_shards.shards.write import write_shards
    from omni.processing.messages import assistant, audio, image, user

    rng = np.random.default_rng(1)
    meta = {"source": "bench", "license": "Apache-2.0", "schema": 1}
    samples = []
    for talk in talks:
        sound = io.BytesIO()
        noise = rng.normal(0, 0.1, talk.frames * RATE * 2 // 25)
        soundfile.write(sound, noise, RATE, format="FLAC")
        parts = {"aud0.flac": sound.getvalue()} | ({"img0.jpg": talk.jpg} if talk.jpg else {})
        shown = [image("img0.jpg")] if talk.jpg else []
        said = assistant(talk.answer, audio("aud0.flac"))
        samples.append(Sample([user(*shown, talk.question), said], parts, meta))
    write_shards(samples, folder)


def minimind(checkout: Path, folder: Path, talks: Sequence[Talk]) -> Loops:
    """Return loops over updates of their model on their dataset, as shipped and cut; a `Peer`.

    Raises:
        ModuleNotFoundError: the checkout needs a package that is not installed.
    """
    import torch
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer, SiglipImageProcessor

    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    sys.modules.setdefault("librosa", ModuleType("librosa"))  # for sound that is heard: none is
    from dataset.omni_dataset import OmniDataset  # type: ignore[import-not-found]
    from trainer.train_sft_omni import omni_collate_fn  # type: ignore[import-not-found]

    words = AutoTokenizer.from_pretrained(str(checkout / "model"))
    eye = SiglipImageProcessor(size={"height": SIDE, "width": SIDE})
    file = _parquet(folder / "talks.parquet", talks)
    rows = OmniDataset(str(file), words, None, eye, max_length=ROW, image_token_len=64)

    def updates(cut: bool) -> Generator[Update]:
        torch.manual_seed(0)
        model = _their_model()
        loader = DataLoader(rows, BATCH, collate_fn=omni_collate_fn, shuffle=True, drop_last=True)
        batches = iter(())
        optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE)
        while True:
            wall, cpu = time.perf_counter(), cpu_seconds()
            found = next(batches, None)
            if found is None:
                batches = iter(loader)
                found = next(batches)
            ids, labels, codes, _, _, pictures, speaker = found
            used = (ids[:, 8] != words.pad_token_id) | (codes[:, 0] != -100)
            if cut:
                longest = int(used.any(0).nonzero().max()) + 1
                ids, labels, codes = (t[..., :longest] for t in (ids, labels, codes))
            made = model(ids, pixel_values=pictures, spk_emb=speaker)
            _their_loss(made, labels, codes).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            useful = (ids[:, 8] != words.pad_token_id).sum() + (codes[:, 0] != -100).sum()
            yield Update(time.perf_counter() - wall, cpu_seconds() - cpu, int(useful))

    return {"MiniMind-O as shipped": updates(False), "MiniMind-O, cut": updates(True)}


def _their_model() -> Any:
    """Build their model in the shapes of ours, with an eye of random weights."""
    from model.model_omni import MiniMindOmni, OmniConfig  # type: ignore[import-not-found]
    from transformers import SiglipVisionConfig, SiglipVisionModel

    config = OmniConfig(
        hidden_size=WIDTH, num_hidden_layers=THINKER, num_talker_hidden_layers=TALKER,
        talker_hidden_size=WIDTH, image_hidden_size=EYE["hidden_size"],
    )  # fmt: skip
    model = MiniMindOmni(config, "", "")
    eye = SiglipVisionModel(SiglipVisionConfig(image_size=SIDE, patch_size=PATCH, **EYE)).eval()
    object.__setattr__(model, "vision_encoder", eye)  # as they keep it out of what trains
    return model.train()


def _their_loss(made: Any, labels: Any, codes: Any) -> Any:
    """Add what their script trains on: the mean of text, and of each book, stops ten times."""
    from torch.nn import functional as F

    loss = F.cross_entropy(made.logits.flatten(0, 1), labels.flatten())
    for book, scores in enumerate(made.audio_logits):
        wanted = codes[:, book].flatten()
        each = F.cross_entropy(scores.flatten(0, 1), wanted, reduction="none")
        weights = (wanted != -100) * (1.0 + 9.0 * (wanted == CODES + 2))
        loss = loss + (each * weights).sum() / (wanted != -100).sum().clamp(min=1) / BOOKS
    return loss + made.aux_loss


def _parquet(path: Path, talks: Sequence[Talk]) -> Path:
    """Write talks as their dataset reads them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = ["<image>\n" if talk.jpg else "" for talk in talks]
    pq.write_table(pa.table({
        "conversations": [json.dumps([
            {"role": "user", "content": mark + talk.question},
            {"role": "assistant", "content": talk.answer},
        ]) for mark, talk in zip(shown, talks, strict=True)],
        "image_bytes": [[talk.jpg] if talk.jpg else [] for talk in talks],
        "answer_audios": [[rng.integers(0, CODES, talk.frames * BOOKS).tolist()] for talk in talks],
    }), path)  # fmt: skip
    return path


def main() -> None:
    """Run the bench; the exit status is 0 if it is ok."""
    words = [word for word in sys.argv[1:] if word != "--small"]
    if len(words) != 1 or not (Path(words[0]) / "model/model_omni.py").is_file():
        print(USAGE, file=sys.stderr)
        raise SystemExit(2)
    checkout = Path(words[0]).resolve()
    bench = partial(run, peer=partial(minimind, checkout), tokenizer=str(checkout / "model"))
    raise SystemExit(0 if show(bench, "--small" in sys.argv) else 1)


if __name__ == "__main__":
    main()
