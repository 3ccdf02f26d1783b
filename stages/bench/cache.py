"""An alignment stage with stored features and without: samples a second, and whose features.

The encoder is the quickstart's, EfficientNet-lite0 at 192 pixels, with random weights; the
decoder is tiny. Both ways run the stage's own loader, objective and optimizer on the same
samples, in turns.
"""

import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from data_shards.bench.data import write
from data_shards.bench.result import Result
from omni.features.cache import FeatureCache

ASKED = 3.0  # times the samples a second
BATCH = 32  # as in the quickstart
SIZE = (256, 256)  # pixels of the pictures


def run(folder: Path, small: bool = False, cache: Any = FeatureCache) -> Result:
    """Train with features read from files and with features computed, a few steps each in turn.

    Args:
        folder: to work in.
        small: three turns on few pictures.
        cache: makes a feature cache of (bytes, folder); another one, to see it fail.
    """
    size, count, turns, steps = (8, 16, 3, 1) if small else (BATCH, 192, 7, 4)
    write(folder / "pictures", count, media=["image"], size=SIZE, chars=(5, 40))
    stored = _Way(folder, cache(1 << 30, folder / "features"), size)
    computed = _Way(folder, None, size)
    filling = stored.train(count // size)
    stored.losses.clear()
    computed.train(count // size)  # warm as well, and past the same samples
    computed.losses.clear()
    pairs = [(stored.train(steps), computed.train(steps)) for _ in range(turns)]
    wall, cpu = ([c[i] / s[i] for s, c in pairs] for i in (0, 1))
    off = max(abs(a - b) for a, b in zip(stored.losses, computed.losses, strict=True))
    foreign = _served_of_other_weights(stored, cache(1 << 30, folder / "features"))
    rows = [
        {"features": name, "samples/s": round(size * n / s, 1), "samples/CPU-s":
         round(size * n / c, 1)}
        for name, n, (s, c) in (
            ("read", steps, _median([s for s, _ in pairs])),
            ("computed", steps, _median([c for _, c in pairs])),
            ("computed and stored", count // size, filling),
        )
    ]  # fmt: skip
    times = statistics.median(wall)
    figures = {
        "cached_x": round(times, 2), "cpu_x": round(statistics.median(cpu), 2),
        "loss_off_by": float(f"{off:.1e}"), "stale_served": foreign,
    }  # fmt: skip
    return Result(times >= ASKED and off < 1e-4 and not foreign, figures, rows)


class _Way:
    """One of both ways to train the stage."""

    def __init__(self, folder: Path, cache: Any, size: int):
        from stages.objectives.task import Task

        from ..recipe.read import load_recipe
        from ..trainable.patterns import set_trainable
        from ..training.prepare import make_loader, make_model

        encoder = "{kind: timm, architecture: tf_efficientnet_lite0, image_size: 192}"
        recipe = load_recipe("tiny", [
            f"sources.captions=[{folder / 'pictures'}/train-*.tar]",
            f"stages.vision_align.attach.vision.encoder={encoder}",
            f"stages.vision_align.data.batch_size={size}",
        ])  # fmt: skip
        stage, accelerator = recipe.stages[0], Accelerator(cpu=True)
        torch.manual_seed(0)
        self.model, processor = make_model(recipe, stage, None, accelerator)
        self.model.feature_cache = cache
        set_trainable(self.model, stage.trainable)
        self.task = Task(self.model, stage.objective).train()
        self.loader = make_loader(recipe, stage, processor, folder, accelerator)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
        self.losses: list[float] = []

    def train(self, steps: int) -> tuple[float, float]:
        """Go on for so many steps; return seconds of wall clock and of CPU, loading included."""
        wall, cpu = time.perf_counter(), time.process_time()
        with closing(iter(self.loader)) as batches:  # type: ignore[type-var]
            for _ in range(steps):
                batch, _ = next(batches)
                count = torch.tensor(float(batch.counts["label_tokens"]))
                loss = self.task(batch.tensors, count).total
                loss.backward()
                self.optimizer.step()
                self.optimizer.zero_grad()
                self.losses.append(loss.item())
        return time.perf_counter() - wall, time.process_time() - cpu


@torch.no_grad()
def _served_of_other_weights(way: _Way, cache: Any) -> bool:
    """Change the encoder's weights as another checkpoint would; are old features served?"""
    encoder: Any = way.model.encoders["vision"]
    for parameter in encoder.parameters():
        parameter.mul_(1.05)
    with closing(iter(way.loader)) as batches:  # type: ignore[type-var]
        pixels = next(batches)[0].tensors["pixel_values"]
    served, made = cache(encoder, [pixels]).values, encoder(pixels).values
    return not torch.allclose(served, made, atol=1e-4)


def _median(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    wall, cpu = (statistics.median(values) for values in zip(*pairs, strict=True))
    return wall, cpu
