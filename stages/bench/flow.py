"""The flow after its stage: how far its loss falls, and do ten steps beat the guess they start by?

Twice, with training times drawn as the steps of sampling lie, and uniformly.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_shards.bench.result import Result

from .speech import build_words, clips_of, codes_of, train_speech

FALL = 0.5  # of the loss on held-out clips
TIMES = ("cosine", "uniform")  # that of the recipe first
AT = (0.1, 0.3, 0.5, 0.7, 0.9)  # where the loss on held-out clips is looked at
STEPS = {"codec": 150, "flow": 200}


def run(folder: Path, small: bool = False, overrides: Sequence[str] = ()) -> Result:
    """Train the flow of `speech_tiny` after its codec, and measure it on held-out renditions.

    The loss is the squared error of the velocity, of a flow of random weights and of the trained
    one. What ten steps make beats the pre-net's guess where it is more like real frames: by the
    Fréchet distance (Heusel et al., arXiv 1706.08500) of frames and of their changes. A guess is
    the mean of what could be, so it is too smooth, and no draw is nearer to any one recording than
    it: the absolute errors of both are told beside. Both promises must hold for the times that the
    recipe draws, as the steps lie; uniform ones are told beside.

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
        after, (prior, steps) = _loss(model, flow, clips), _made(model, flow, clips)
        torch.manual_seed(0)
        before = _loss(model, _anew(model), clips)
        rows.append({
            "times": times, "loss before": round(before, 4), "after": round(after, 4),
            "fall": round(1 - after / before, 3), "prior off": round(prior.distance, 2),
            "ten steps off": round(steps.distance, 2), "error of the prior": round(prior.error, 4),
            "of ten steps": round(steps.error, 4),
        })  # fmt: skip
    told = ("fall", "prior off", "ten steps off", "error of the prior", "of ten steps")
    figures = {f"{name.replace(' ', '_')}_{row['times']}": row[name]
               for row in rows for name in told}  # fmt: skip
    own = rows[0]
    ok = own["fall"] >= FALL and own["ten steps off"] < own["prior off"]
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


class Made(NamedTuple):
    """How far frames are from real ones."""

    distance: float
    """of their distributions"""
    error: float
    """of each, absolute"""


def _made(model: Any, flow: Any, batches: Sequence[Any]) -> list[Made]:
    """Return how far the prior's frames are, and those of ten steps."""
    import torch

    from omni.heads.mel import log_mel

    real, made = list[Any](), list[tuple[Any, Any]]()
    for batch in batches:
        real.append(log_mel(batch["code_wave"][0]))
        with torch.no_grad():
            vectors, decoded = _vectors(model, batch)
            prior = flow.prior(vectors[None], decoded[None])[0]
            made.append((prior, flow.frames(vectors, decoded, flow.start())))
    found = []
    for way in zip(*made, strict=True):
        off = torch.cat([(a - b).abs().mean(1) for a, b in zip(way, real, strict=True)])
        found.append(Made(frechet(_moving(way), _moving(real)), float(off.mean())))
    return found


def _moving(clips: Sequence[Any]) -> Any:
    """Return frames of clips (T, BINS) and what comes to each: (sum of T - 1, 2 BINS)."""
    import torch

    return torch.cat([torch.cat([clip[1:], clip.diff(dim=0)], 1) for clip in clips])


def frechet(found: Any, real: Any) -> float:
    """Return the Fréchet distance of two sets of vectors (n, D) and (m, D), taken as Gaussian."""
    import torch

    found, real = found.double(), real.double()
    shift = (found.mean(0) - real.mean(0)).square().sum()
    one, other = found.T.cov(), real.T.cov()
    both = torch.linalg.eigvals(one @ other).real.clamp(min=0).sqrt().sum()
    return float(shift + one.trace() + other.trace() - 2 * both)
