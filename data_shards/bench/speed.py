"""Samples per CPU-second, children included: ours beside bare decoding, webdataset and Energon.

Every reader makes batches of 16 of the same shards: pixels, sounds and json as arrays, ours in
a shuffled order, with checksums. They take turns within each round, so that a busy machine slows
all alike, and ratios are medians over rounds. webdataset and Energon decode pictures with PIL, as
their users do, and wav files as quickly as anybody can; webdataset also stacks its batches, which
it does unasked, and which is how its workers hand them over at the least cost.

`limit_kept` is what two threads keep of one that do nothing but decode: cores that share caches
and a host take part of it, and of `threads_kept` as well.
"""

import gc
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import wave
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch

from omni.media.decode import load_audio, load_image
from omni.processing.processor import Encoded

from ..index.index import Index
from ..plan.plan import Plan, PlanConfig
from ..read.entry import read_entry
from ..read.loader import Loader
from ..shards.export import export
from ..shards.write import ShardSet
from .data import Bare, samples
from .result import Result

BATCH = 16
SHARDS = 8
AHEAD = 16 << 20  # bytes of four batches, which is what two workers of webdataset hold
Files = tuple[bytes, bytes, bytes]  # of a sample: json, picture, sound
Contender = Callable[[], tuple[int, float | None]]
"""Goes over the data once; returns the samples it saw, and CPU-seconds if it must tell them."""


def run(folder: Path, small: bool = False) -> Result:
    """Time the contenders; `small` runs everything once on next to nothing."""
    count, rounds = (64, 1) if small else (2000, 15)
    shards = _write(folder / "shards", count)
    files = _files(shards)
    contenders: dict[str, Contender] = {
        "decode alone": _limit(files, 1),
        "decode alone, 2 threads": _limit(files, 2),
        "ours, 0 workers": _ours(shards, 0),
        "ours, 2 threads": _ours(shards, 2),
        "webdataset, 2 workers": lambda: _webdataset(shards),
    }
    if programs := _energon_programs():
        contenders["energon, 2 workers"] = _energon(programs, shards, count)
    rates = _race(contenders, count, rounds)
    limit, limit_threads, ours, threads, wds, *energon = rates.values()
    figures = {
        "vs_webdataset": _ratio(threads, wds),
        "vs_energon": _ratio(threads, energon[0]) if energon else None,
        "of_limit": _ratio(ours, limit),
        "threads_kept": _ratio(threads, ours),
        "limit_kept": _ratio(limit_threads, limit),
    }
    ok = (figures["vs_webdataset"] >= 2 and figures["of_limit"] >= 0.75
          and figures["threads_kept"] >= 0.9)  # fmt: skip
    rows = [{"reader": name, "samples per CPU-second": f"{statistics.median(found):,.0f}",
             "lowest and highest": f"{min(found):,.0f} to {max(found):,.0f}"}
            for name, found in rates.items()]  # fmt: skip
    if not programs:
        why = "not installed; ENERGON may name the bin folder of its environment"
        rows.append({"reader": "energon, 2 workers", "samples per CPU-second": "not run",
                     "lowest and highest": why})  # fmt: skip
    return Result(ok, figures, rows)


def _write(folder: Path, count: int) -> Path:
    """Write pictures of about 20 kB, 256 x 256 with the grain of a camera, and sounds of 1 s."""
    rng = np.random.default_rng(1)
    with ShardSet(folder, shard_samples=count // SHARDS) as shards:
        for sample in samples(count, size=(256, 256), seconds=1.0):
            pixels = np.array(load_image(sample.parts["img0.jpg"]), np.int16)
            pixels += rng.integers(-9, 10, pixels.shape, np.int16)
            grainy = pixels.clip(0, 255).astype(np.uint8)
            sample.parts["img0.jpg"] = simplejpeg.encode_jpeg(grainy, quality=90)
            shards.add(sample)
        shards.commit({})
    return folder


def _race(contenders: dict[str, Contender], count: int, rounds: int) -> dict[str, list[float]]:
    """Return samples per CPU-second of each contender by round; the first round warms up."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        turn = number % len(contenders)
        order = list(contenders.items())
        for name, go in order[turn:] + order[:turn]:
            gc.collect()
            before = _cpu_seconds()
            seen, told = go()
            spent = told or _cpu_seconds() - before
            if seen != count:
                raise RuntimeError(f"{name} delivered {seen} of {count} samples")
            if number or rounds == 1:
                rates[name].append(seen / spent)
    return rates


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3)


def _files(shards: Path) -> list[Files]:
    index = Index.open(shards)
    samples = (read_entry(index.entry(row)) for row in range(len(index)))
    return [(s.to_json(), s.parts["img0.jpg"], s.parts["aud0.wav"]) for s in samples]


def _limit(files: list[Files], threads: int) -> Contender:
    """Decode files that lie in memory, one by one, to batches that are held as any reader's are."""

    def decode(part: list[Files]) -> int:
        seen = 0
        for at in range(0, len(part), BATCH):
            batch = [(json.loads(told), simplejpeg.decode_jpeg(picture), _wav(sound))
                     for told, picture, sound in part[at : at + BATCH]]  # fmt: skip
            seen += len(batch)
        return seen

    def go() -> tuple[int, float | None]:
        if threads == 1:  # in this thread, as our 0 workers do
            return decode(files), None
        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(decode, [files[n::threads] for n in range(threads)])), None

    return go


def _wav(data: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(data)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return samples.astype(np.float32) / 32768


@cache
def _ones(count: int) -> torch.Tensor:
    return torch.ones(count, dtype=torch.uint8)  # kept: tokens are no part of what is measured


class Arrays(Bare):
    """Decodes as training does, and no further: pictures become tensors as they are stored."""

    def encode(self, messages: list[dict[str, Any]], **how: Any) -> Any:
        """Return media as arrays, and as many tokens as the plan counts."""
        media: dict[str, list[dict[str, torch.Tensor]]] = {"vision": [], "audio": []}
        tokens = 0
        for part in (part for message in messages for part in message["content"]):
            if part["type"] == "image":
                pixels = np.array(load_image(part["image"]))
                media["vision"].append({"pixels": torch.from_numpy(pixels)})
                tokens += -(-pixels.shape[0] // 16) * -(-pixels.shape[1] // 16)
            elif part["type"] == "audio":
                sound = load_audio(part["audio"])
                media["audio"].append({"samples": torch.from_numpy(sound)})
                tokens += -(-len(sound) // 320)
            else:
                tokens += len(part["text"].encode())
        return Encoded(_ones(tokens), _ones(tokens), media)


def _ours(shards: Path, workers: int) -> Contender:
    index, processor = Index.open(shards), Arrays()
    lengths = index.lengths(processor)

    def go() -> tuple[int, float | None]:
        config = PlanConfig({"all": 1.0}, max_samples=BATCH, max_length=1 << 20)
        plan = Plan({"all": index}, config, {"all": lengths})
        batches = Loader(plan, processor, workers=workers, prefetch_bytes=AHEAD)
        return sum(b.documents.samples for b, _ in islice(batches, len(index) // BATCH)), None

    return go


def _webdataset(shards: Path) -> tuple[int, float | None]:
    import webdataset as wds

    dataset = (
        wds.WebDataset([str(path) for path in sorted(shards.glob("*.tar"))], shardshuffle=False)
        .decode("rgb8", wds.handle_extension("wav", _wav))
        .to_tuple("img0.jpg", "aud0.wav", "json")
        .batched(BATCH)
    )
    batches: Iterator[Any] = iter(wds.WebLoader(dataset, batch_size=None, num_workers=2))
    return sum(len(pixels) for pixels, *_ in batches), None


def _energon(programs: Path, shards: Path, count: int) -> Contender:
    """Read with Energon in an environment of its own, which tells its samples and CPU-seconds."""
    export(shards, "energon")
    command = [programs / "energon", "prepare", "--tar-index-only", "--num-workers", "1", shards]
    subprocess.run(command, check=True, capture_output=True)

    def go() -> tuple[int, float]:
        command = [programs / "python", "-c", ENERGON, shards, str(count), str(BATCH)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seen, spent = json.loads(done.stdout.splitlines()[-1])
        return seen, spent

    return go


def _energon_programs() -> Path | None:
    """Return the folder of Energon's programs: `$ENERGON`, or beside this Python."""
    if "ENERGON" in os.environ:
        return Path(os.environ["ENERGON"])
    beside = Path(sys.executable).parent
    return beside if (beside / "energon").is_file() else None


# the time to import it is not counted
ENERGON = """
import io, json, resource, sys
import numpy as np
from megatron.energon import (
    Cooker, DefaultTaskEncoder, WorkerConfig, basic_sample_keys, get_loader, get_train_dataset,
    stateless,
)
from PIL import Image

folder, count, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


@stateless
def cook(sample):
    pixels = np.asarray(Image.open(io.BytesIO(sample["img0.jpg"])).convert("RGB"))
    sound = np.frombuffer(sample["aud0.wav"], np.int16, offset=44).astype(np.float32) / 32768
    return {**basic_sample_keys(sample), "pixels": pixels, "sound": sound,
            "json": json.loads(sample["json"])}


class Encoder(DefaultTaskEncoder):
    decoder = None
    cookers = [Cooker(cook)]

    def batch(self, samples):
        return [np.stack([s[k] for s in samples]) for k in ("pixels", "sound")]


def spent():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def read():
    data = get_train_dataset(folder, batch_size=batch, shuffle_buffer_size=None,
                             max_samples_per_sequence=None, task_encoder=Encoder(),
                             worker_config=WorkerConfig(rank=0, world_size=1, num_workers=2))
    seen = 0
    for pixels, sound in get_loader(data):
        seen += len(pixels)
        if seen >= count:
            return seen


before = spent()
seen = read()
print(json.dumps([seen, spent() - before]))
"""
