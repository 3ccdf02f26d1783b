"""The audio tokenizer after its stage: are its codes used, and what does each book add?"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from data_shards.bench.result import Result

ENTROPY, CUT = 0.8, 0.3
VOICES, HELDOUT = "pico:en-US,pico:en-GB", "pico:en-GB"


def run(folder: Path, small: bool = False, overrides: Sequence[str] = ()) -> Result:
    """Train the codec of `speech_tiny` on a synthetic voice; measure it on that and on another.

    Entropy and dead codes are counted over the training clips, the error is the absolute one of
    log-mel frames of clips that were held out, decoded from the first books alone.

    Args:
        folder: to work in.
        small: few clips and steps, which shows that it runs.
        overrides: of the recipe.
    """
    from omni.load import load

    data = folder / "say"
    _build(data, 2 if small else 8)
    target = _train(folder, data, [*(["stages.codec.steps=6"] if small else []), *overrides])
    model, processor = load(target)
    clips = list(_clips(processor, data, "train"))
    usage = _usage(model, clips)
    errors = {
        "voice of the training": _errors(model, clips[::7]),
        "held-out voice": _errors(model, [*_clips(processor, data, "heldout")]),
    }
    rows = [
        {"books": n + 1, "entropy": round(usage[n][0], 3), "dead codes": usage[n][1],
         **{name: round(values[n], 4) for name, values in errors.items()}}
        for n in range(len(usage))
    ]  # fmt: skip
    falling = {n: all(b < a for a, b in pairwise(v)) for n, v in errors.items()}
    cut = {name: round(1 - values[-1] / values[0], 3) for name, values in errors.items()}
    figures = {
        "entropy": min(row["entropy"] for row in rows), "dead": sum(n for _, n in usage),
        "cut": cut["voice of the training"], "cut_heldout": cut["held-out voice"],
        "falling": falling["voice of the training"], "falling_heldout": falling["held-out voice"],
    }  # fmt: skip
    ok = figures["entropy"] >= ENTROPY and not figures["dead"] and figures["falling"]
    return Result(ok and figures["cut"] >= CUT, figures, rows)


def _build(data: Path, renditions: int) -> None:
    """Write shards of words that are said by one voice, and held-out ones by another."""
    from data_shards.shards.write import write_shards
    from data_shards.sources.base import Build
    from data_shards.sources.demo.speech import Speech

    source = Speech(task="say", voices=VOICES, heldout_voices=HELDOUT, renditions=renditions,
                    heldout_renditions=1)  # fmt: skip
    write_shards(source.generate(Build(seed=0)), data)


def _train(folder: Path, data: Path, overrides: list[str]) -> Path:
    """Run the stage as a user does; return its checkpoint."""
    from accelerate import Accelerator

    from ..recipe.read import load_recipe
    from ..training.chain import run_recipe

    recipe = load_recipe("speech_tiny", [
        f"output={folder / 'run'}", f"sources.say=[{data}/train-*.tar]", "trackers=[]", *overrides,
    ])  # fmt: skip
    run_recipe(recipe, Accelerator(cpu=True), "codec")
    return folder / "run" / "codec"


def _clips(processor: Any, data: Path, split: str) -> Iterator[Any]:
    """Encode the clips of a split, each alone."""
    from data_shards.read.encode import Encode
    from data_shards.read.entry import read_shard
    from stages.objectives.speech import Sounds

    encode = Encode(processor, Sounds())
    for shard in sorted(data.glob(f"{split}-*.tar")):
        for sample in read_shard(shard):
            yield processor.pack(encode.sample(sample))


def _codes(model: Any, batch: dict[str, Any]) -> Any:
    """Return the codes of a clip without its end: (n, books)."""
    import torch

    with torch.no_grad():
        return model.codes(model.codec, dict(batch))[:-1]


def _usage(model: Any, batches: Sequence[Any]) -> list[tuple[float, int]]:
    """Return, for each book, the entropy of its codes as a share of the most, and unused ones."""
    import torch

    codes, found = torch.cat([_codes(model, batch) for batch in batches]), []
    for size, column in zip(model.encoders[model.codec].books, codes.T, strict=True):
        counts = torch.bincount(column, minlength=size).double()
        share = counts[counts > 0] / counts.sum()
        entropy = float(-(share * share.log()).sum()) / math.log(size)
        found.append((entropy, int((counts == 0).sum())))
    return found


def _errors(model: Any, batches: Sequence[Any]) -> list[float]:
    """Return the mean absolute error of log-mel frames decoded from the first 1, 2, ... books."""
    import torch

    from omni.heads.mel import log_mel

    codec, frames = model.encoders[model.codec], 0
    sums = [0.0] * len(codec.books)
    for batch in batches:
        codes, mel = _codes(model, batch), log_mel(batch["code_wave"][0])
        frames += len(mel)
        for number in range(len(sums)):
            with torch.no_grad():
                found = codec.decode(codes[:, : number + 1]).refined[0]
            sums[number] += float((found - mel).abs().mean(1).sum())
    return [total / frames for total in sums]
