"""The flow after its stage: how far its loss falls, and do ten steps beat the guess they start by?

Twice, with training times drawn uniformly and as the steps of sampling lie.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_shards.bench.result import Result

from .speech import build_words, clips_of, codes_of, train_speech

FALL = 0.5  # of the loss on held-out clips
TIMES = ("uniform", "cosine")
AT = (0.1, 0.3, 0.5, 0.7, 0.9)  # where the loss on held-out clips is looked at
STEPS = {"codec": 150, "flow": 200}


def run(folder: Path, small: bool = False, overrides: Sequence[str] = ()) -> Result:
    """Train the flow of `speech_tiny` after its codec, and measure it on held-out renditions.

    The loss is the squared error of the velocity, of a flow of random weights and of the trained
    one; the errors are absolute ones of log-mel frames, of the pre-net's guess and of what ten
    steps make. Both must hold for the recipe's uniform times; the others are told beside.

    Args:
        folder: to work in.
        small: few clips and steps, which shows that it runs.
        overrides: of the recipe.
    """
    import torch

    from omni.load import load

    data, rows = folder / "say", []
    build_words(data, 2 if small else 8)
    changes = [f"stages.{name}.steps={4 if small else steps}" for name, steps in STEPS.items()]
    changes += overrides
    codec = train_speech(folder / "codec", data, ["codec"], changes)
    for times in TIMES:
        how = [*changes, f"stages.flow.objective={{kind: flow, times: {times}}}"]
        loaded: Any = load(train_speech(folder / times, data, ["flow"], how, codec))
        model, processor = loaded
        clips = list(clips_of(processor, data, "heldout"))
        flow = model.heads[model.head_of("flow")]
        after, prior, steps = _loss(model, flow, clips), *_errors(model, flow, clips)
        torch.manual_seed(0)
        before = _loss(model, _anew(model), clips)
        rows.append({
            "times": times, "loss before": round(before, 4), "after": round(after, 4),
            "fall": round(1 - after / before, 3), "error of the prior": round(prior, 4),
            "of ten steps": round(steps, 4),
        })  # fmt: skip
    told = ("fall", "error of the prior", "of ten steps")
    figures = {f"{name.replace(' ', '_')}_{row['times']}": row[name]
               for row in rows for name in told}  # fmt: skip
    kept = rows[0]
    ok = kept["fall"] >= FALL and kept["of ten steps"] < kept["error of the prior"]
    return Result(ok, figures, rows)


def _anew(model: Any) -> Any:
    """Return a flow of the same shape with random weights."""
    from omni.heads import build_head

    width = model.encoders[model.codec].code_width
    return build_head(model.config.heads[model.head_of("flow")], {"code_width": width}).eval()


def _vectors(model: Any, batch: Any) -> Any:
    """Return what a clip's codes stand for, (n, D), and the decoder's frames, (8 n, BINS)."""
    codec = model.encoders[model.codec]
    vectors = codec.quantiser.lookup(codes_of(model, batch))
    return vectors, codec.decoder(vectors[None]).refined[0]


def _loss(model: Any, flow: Any, batches: Sequence[Any]) -> float:
    """Return the mean squared error of the velocity by frame, with the same noise every time."""
    import torch

    from omni.heads.mel import log_mel

    noise, total, frames = torch.Generator().manual_seed(0), 0.0, 0
    for batch in batches:
        mel = log_mel(batch["code_wave"][:1]).expand(len(AT), -1, -1)
        drawn = torch.randn(mel.shape, generator=noise)
        with torch.no_grad():
            vectors, decoded = _vectors(model, batch)
            prior = flow.prior(vectors[None], decoded[None]).expand_as(mel)
            errors = flow.loss(prior, mel, drawn, torch.tensor(AT), torch.ones(len(AT)))
        total, frames = total + float(errors.sum()), frames + errors.numel()
    return total / frames


def _errors(model: Any, flow: Any, batches: Sequence[Any]) -> tuple[float, float]:
    """Return the mean absolute errors of log-mel frames, of the prior and of ten steps."""
    import torch

    from omni.heads.mel import log_mel

    sums, frames = [0.0, 0.0], 0
    for batch in batches:
        mel = log_mel(batch["code_wave"][0])
        with torch.no_grad():
            vectors, decoded = _vectors(model, batch)
            prior = flow.prior(vectors[None], decoded[None])[0]
            made = prior, flow.frames(vectors, decoded, flow.start())
        for number, found in enumerate(made):
            sums[number] += float((found - mel).abs().mean(1).sum())
        frames += len(mel)
    return sums[0] / frames, sums[1] / frames
