"""Honest throughput: wall clock with the wait for data in it, and tokens that are not padding."""

import math
import resource
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from accelerate import Accelerator

from omni.files.jsonl import append_lines

from ..objectives import make_objective
from ..recipe.schema import Recipe, StageConfig, sources_of
from .bar import Bar
from .flops import Flops
from .names import COUNTS, OF_GROUP
from .peak import Peak
from .tally import INEXACT, Tally, groups_of
from .trackers import Trackers

RATES = {"tokens": "tokens_per_s", "label_tokens": "label_tokens_per_s",
         "samples": "samples_per_s", "images": "images_per_s",
         "audio_seconds": "audio_seconds_per_s"}  # fmt: skip


class Metrics:
    """Counts, clocks and logs of one stage: a bar, `log.jsonl` and trackers."""

    def __init__(
        self,
        recipe: Recipe,
        stage: StageConfig,
        model: Any,
        accelerator: Accelerator,
        state: dict[str, Any] | None,
        engine: str,
    ):
        self.ranks, self.engine = accelerator.num_processes, engine
        self.stage, self.main, run = stage, accelerator.is_main_process, Path(recipe.output)
        self.totals: Counter[str] = Counter()
        self.seconds, self.first_loss, self.last_losses = 0.0, None, []
        if state:
            then = state["metrics"]
            self.totals.update(then["totals"])
            self.seconds, self.first_loss = then["seconds"], then["first_loss"]
            self.last_losses = then["last_losses"]
        self._device = accelerator.device
        self._groups = groups_of(sources_of(stage), model.config.modalities)
        self._objective = make_objective(stage.objective)
        self._flops = Flops(model, self._objective.runs_llm, self._objective.runs_part)
        self._peak = Peak(accelerator.device, accelerator.mixed_precision)
        self._clock, self._wait = time.monotonic(), 0.0
        self._window: dict[str, float] = {}
        self._losses: dict[str, float] = {}
        self._log = run / "log.jsonl"
        run.mkdir(parents=True, exist_ok=True)
        self._trackers = Trackers(recipe.trackers, run, stage, accelerator)
        joined = f" ({self.ranks} ranks, {engine})" if self.ranks > 1 else ""
        self._bar = Bar(
            f"{stage.name}{joined}", stage.steps, state["step"] if state else 0, self.main
        )

    def __enter__(self) -> "Metrics":
        self._clock = time.monotonic()
        self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.stop()
        self._trackers.close()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Clock the wait for data."""
        began = time.monotonic()
        yield
        self._wait += time.monotonic() - began

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave out of the steps' time, and of the bar, what is done between two of them."""
        self._bar.stop()
        yield
        self._bar.start()
        self._clock = time.monotonic()

    def tally(self) -> Tally:
        """Begin to add up a step."""
        return Tally(self._groups, self._objective, self._flops, self._device)

    def count(self, tally: Tally) -> None:
        """Take over what a step added up over all ranks."""
        self._window, self._losses = tally.counts, tally.losses | tally.figures
        # operations are left out: a run that goes on starts with an empty feature cache
        self.totals.update({k: n for k, n in tally.counts.items() if not k.startswith(INEXACT)})

    def step(
        self,
        step: int,
        loss: float,
        groups: Sequence[dict[str, Any]],
        made: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Log one optimizer update; `groups` are the optimizer's, `made` figures of its data."""
        now = time.monotonic()
        took, self._clock = now - self._clock, now
        self.seconds += took
        if self.first_loss is None:
            self.first_loss = loss
        self.last_losses = [*self.last_losses, loss][-10:]
        wait, self._wait = self._wait, 0.0
        self._measure(took)
        if not self.main:
            return
        row = {"step": step, "loss": loss, "lr": groups[0]["lr"], **self._row(took, wait)}
        row |= {f"lr.{group['pattern']}": group["lr"] for group in groups}
        if self.stage.rollout:  # the rest of the step's time is the drawing of answers
            trained = self._window["tokens"] / max(1e-9, took - wait)
            row |= {"trained_tokens_per_s": round(trained, 1), **made}
        self.write({"stage": self.stage.name, **row})
        self._trackers.log(row, step)
        line = f"loss {loss:.3f}  lr {row['lr']:.1e}  {row['tokens_per_s']:.0f} tokens/s"
        if made:
            line += f"  reward {made['reward']:.2f}  solved {made['solved']:.0%}"
        self._bar.show(step, line, self.seconds)

    def _row(self, took: float, wait: float) -> dict[str, float]:
        """Return the figures of a step that took so many seconds, `wait` of them for data."""
        window = self._window
        filler = window["positions"] - window["tokens"]
        row = {"seconds": round(took, 4), "data_wait": round(wait / took, 4)}
        row |= {name: round(window[count] / took, 1) for count, name in RATES.items()}
        row["padding"] = round(filler / max(1, window["positions"]), 4)
        row["memory_gb"] = round(_memory(self._device) / 2**30, 3)
        row |= self._utilisation(took)
        row |= {name: window[name] for name in COUNTS}
        for group in self._groups:
            if window[f"{group}.samples"]:
                row |= {f"{group}.{count}": window[f"{group}.{count}"] for count in OF_GROUP}
        return row | self._losses

    def _measure(self, took: float) -> None:
        """Let every rank measure at once, as they train, and outside of the steps' time."""
        done = sum(self._window[f"flops.{part}"] for part in self._flops.parts)
        if math.isfinite(done):
            self._peak.reached(done / took / self.ranks)
        self._peak.watch()
        self._clock = time.monotonic()

    def _utilisation(self, took: float) -> dict[str, float]:
        """Return MFU, also by part of the model; nothing where it cannot be known."""
        best = self.ranks * self._peak.rate * took
        shares = {part: self._window[f"flops.{part}"] / best for part in self._flops.parts}
        if not math.isfinite(total := sum(shares.values())):
            return {}
        named = {"mfu": total} | {f"mfu.{part}": share for part, share in shares.items()}
        return {name: float(f"{min(1.0, share):.4g}") for name, share in named.items()}

    def write(self, row: dict[str, Any]) -> None:
        """Append one line to the run's log."""
        if self.main:
            append_lines(self._log, [row], sync=False)  # every step waits for it

    def state(self) -> dict[str, Any]:
        """Return what a resumed stage needs to keep its totals."""
        return {
            "totals": dict(self.totals), "seconds": self.seconds, "first_loss": self.first_loss,
            "last_losses": self.last_losses,
        }  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """Summarise the stage; `last_loss` is the mean of its last ten steps."""
        return {
            "name": self.stage.name,
            "steps": self.stage.steps,
            "ranks": self.ranks,
            "engine": self.engine,
            "seconds": round(self.seconds, 1),
            "tokens": self.totals["tokens"],
            "first_loss": round(self.first_loss or 0.0, 4),
            "last_loss": round(sum(self.last_losses) / max(1, len(self.last_losses)), 4),
            "totals": dict(self.totals),
        }


def _memory(device: torch.device) -> int:
    """Return the most bytes that were in use: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
