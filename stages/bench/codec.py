"""The audio tokenizer after its stage: are its codes used, and what does each book add?"""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from data_shards.bench.result import Result

from .speech import build_words, clips_of, codes_of, train_speech

ENTROPY, CUT = 0.8, 0.3
VOICES = "pico,flite"


def run(folder: Path, small: bool = False, overrides: Sequence[str] = ()) -> Result:
    """Train the codec of `speech_tiny` on synthetic voices; measure it on these and on others.

    Entropy and dead codes are counted over the training clips, the error is the absolute one of
    log-mel frames of clips that were held out, decoded from the first books alone.

    Args:
        folder: to work in.
        small: few clips and steps, which shows that it runs.
        overrides: of the recipe.
    """
    from omni.load import load

    data = folder / "say"
    build_words(data, 2 if small else 8, VOICES, "auto")
    changes = [*(["stages.codec.steps=6"] if small else []), *overrides]
    model, processor = load(train_speech(folder / "run", data, ["codec"], changes))
    clips = list(clips_of(processor, data, "train"))
    usage = _usage(model, clips)
    errors = {
        "voices of the training": _errors(model, clips[::7]),
        "held-out voices": _errors(model, [*clips_of(processor, data, "heldout")]),
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
        "cut": cut["voices of the training"], "cut_heldout": cut["held-out voices"],
        "falling": falling["voices of the training"], "falling_heldout": falling["held-out voices"],
    }  # fmt: skip
    ok = figures["entropy"] >= ENTROPY and not figures["dead"] and figures["falling"]
    return Result(ok and figures["cut"] >= CUT, figures, rows)


def _usage(model: Any, batches: Sequence[Any]) -> list[tuple[float, int]]:
    """Return, for each book, the entropy of its codes as a share of the most, and unused ones."""
    import torch

    codes, found = torch.cat([codes_of(model, batch) for batch in batches]), []
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
        codes, mel = codes_of(model, batch), log_mel(batch["code_wave"][0])
        frames += len(mel)
        for number in range(len(sums)):
            with torch.no_grad():
                found = codec.decode(codes[:, : number + 1]).refined[0]
            sums[number] += float((found - mel).abs().mean(1).sum())
    return [total / frames for total in sums]
