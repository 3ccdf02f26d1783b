"""Honest throughput: wall clock with the wait for data in it, and tokens that are not padding."""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from .recipe import StageConfig

COUNTS = ("label_tokens", "tokens", "samples", "quarantined")  # of a batch's meta
PRINT_SECONDS = 15.0  # between lines where there is no terminal to draw a bar on


class Metrics:
    """Counts, clocks and logs of one stage: a bar, `log.jsonl` and TensorBoard."""

    def __init__(
        self, stage: StageConfig, run: Path, model: Any, main: bool, state: dict[str, Any] | None
    ):
        self.stage, self.main = stage, main
        self.totals: Counter[str] = Counter()
        self.seconds, self.first_loss, self.last_losses = 0.0, None, []
        if state:
            then = state["metrics"]
            self.totals.update(then["totals"])
            self.seconds, self.first_loss = then["seconds"], then["first_loss"]
            self.last_losses = then["last_losses"]
        self._done = state["step"] if state else 0
        self._clock = self._printed = time.monotonic()
        self._wait, self._window = 0.0, Counter()
        self._log = run / "log.jsonl"
        run.mkdir(parents=True, exist_ok=True)
        self._board = SummaryWriter(str(run / "tensorboard" / stage.name)) if main else None
        self._bar = Progress(
            TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[line]}"), TimeRemainingColumn(),
            disable=not (main and sys.stdout.isatty()), console=Console(),
        )  # fmt: skip
        self._task = self._bar.add_task(
            stage.name, total=stage.steps, completed=self._done, line=""
        )
        if main:
            print(describe(model, stage.name))

    def __enter__(self) -> "Metrics":
        self._clock = time.monotonic()
        self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.stop()
        if self._board:
            self._board.close()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Clock the wait for data."""
        began = time.monotonic()
        yield
        self._wait += time.monotonic() - began

    def count(self, totals: list[int], sources: list[str]) -> None:
        """Count one step: `COUNTS` over all ranks, and the sources of this rank's samples."""
        facts = dict(zip(COUNTS, totals, strict=True))
        self.totals.update(facts)
        self._window.update(facts)
        self.totals.update({f"source.{name}": n for name, n in Counter(sources).items()})

    def step(self, step: int, loss: float, lr: float) -> None:
        """Log one optimizer update."""
        now = time.monotonic()
        took, self._clock = now - self._clock, now
        self.seconds += took
        if self.first_loss is None:
            self.first_loss = loss
        self.last_losses = [*self.last_losses, loss][-10:]
        if not self.main:
            return
        row = {
            "stage": self.stage.name, "step": step, "loss": loss, "lr": lr,
            "seconds": round(took, 4), "data_wait": round(self._wait / took, 4),
            "tokens_per_s": round(self._window["tokens"] / took, 1), **self._window,
        }  # fmt: skip
        self.write(row)
        for key in ("loss", "lr", "tokens_per_s", "data_wait"):
            self._board.add_scalar(key, row[key], step)  # type: ignore[union-attr]
        line = f"loss {loss:.3f}  lr {lr:.1e}  {row['tokens_per_s']:.0f} tokens/s"
        self._bar.update(self._task, completed=step, line=line)
        if self._bar.disable and (now - self._printed > PRINT_SECONDS or step == self.stage.steps):
            self._printed = now
            left = (self.stage.steps - step) * self.seconds / max(1, step)
            print(f"{self.stage.name} {step}/{self.stage.steps}  {line}  {left:.0f} s left",
                  flush=True)  # fmt: skip
        self._wait, self._window = 0.0, Counter()

    def write(self, row: dict[str, Any]) -> None:
        """Append one line to the run's log."""
        if self.main:
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

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
            "seconds": round(self.seconds, 1),
            "tokens": self.totals["tokens"],
            "first_loss": round(self.first_loss or 0.0, 4),
            "last_loss": round(sum(self.last_losses) / max(1, len(self.last_losses)), 4),
            "totals": dict(self.totals),
        }


def describe(model: Any, title: str) -> str:
    """Return a table of the parts, their parameters and how many of them train."""
    rows = [f"{title}: what trains"]
    parts = {"language_model": model.language_model}
    parts |= {f"{kind}.{n}": m for kind in ("encoders", "projectors")
              for n, m in getattr(model, kind).items()}  # fmt: skip
    for name, part in parts.items():
        count = sum(p.numel() for p in part.parameters())
        trained = sum(p.numel() for p in part.parameters() if p.requires_grad)
        state = "frozen" if not trained else "trains" if trained == count else f"trains {trained:,}"
        rows.append(f"  {name:<20} {count:>13,}  {state}")
    return "\n".join(rows)
