"""Name the document that breaks a step, leave it out, and go on.

A step fails when its loss or gradient is not finite, when memory runs out, or when it takes too
long. What it was made of is written to `offenders.jsonl` before anything else. Then its documents
are tried in halves, each a forward and a backward of a pack made of them alone, until those that
fail by themselves are known; they are quarantined, and the rest of the batch is trained on.
"""

import faulthandler
import gc
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.modules.batchnorm import _NormBase

from data_shards.read.quarantine import TooManyBad
from omni.files.jsonl import append_lines, read_lines
from omni.processing.processor import IGNORE_INDEX

from ..engine.distribute import clip
from .steps import Step, Steps
from .trace import describe_documents

T = TypeVar("T")
CULPRIT = "culprit"  # of an event: a sample that broke a step
NOT_FINITE, MEMORY, TIMEOUT = "not finite", "out of memory", "timeout"
RESTART = 75  # EX_TEMPFAIL of sysexits.h: the same command goes on from the last checkpoint
# of the CPU's allocator, of CUDA, and of cuBLAS, which all raise RuntimeError
NO_MEMORY = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def cause(error: BaseException) -> str:
    """Return what an error says of the step's samples: `NOT_FINITE`, `MEMORY`, or nothing: ""."""
    if isinstance(error, FloatingPointError):
        return NOT_FINITE
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return MEMORY
    message = str(error)
    short = isinstance(error, RuntimeError) and any(words in message for words in NO_MEMORY)
    return MEMORY if short else ""


class Guard:
    """Watches the steps of a stage and finds the documents that break one.

    Args:
        task: as `engine.distribute` returned it, in training mode.
        steps: what a step is made of; they leave out what is found here.
        folder: of `offenders.jsonl`; what it says from an earlier run holds from the start.
        limit: documents that may be left out; 0: none, the error is raised as it is.
        timeout: seconds of a step; 0: any.

    Raises:
        TooManyBad: an earlier run left out more than `limit` allows.
    """

    def __init__(
        self,
        task: nn.Module,
        steps: Steps,
        folder: Path,
        accelerator: Accelerator,
        limit: int = 16,
        timeout: float = 0.0,
    ):
        self.task, self.steps, self.accelerator = task, steps, accelerator
        self.path, self.limit, self.timeout = folder / "offenders.jsonl", limit, timeout
        self.found = 0
        self._doubted: set[int] = set()  # steps in which a rank ran out of memory and left
        norms = [m for m in task.modules() if isinstance(m, _NormBase)]  # a forward changes them
        self._statistics = [buffer for m in norms for buffer in m.buffers(recurse=False)]
        self._before: list[torch.Tensor] = []
        self._read()

    def _read(self) -> None:
        """Take over what earlier runs of this stage found."""
        rows = [*read_lines(self.path)]
        culprits = [row for row in rows if row["event"] == CULPRIT]
        for row in culprits if self.limit else ():
            self._exclude(row["source"], row["sample"], row["step"], row["reason"])
        left = {r["step"] for r in rows if r.get("why") == MEMORY and r["ranks"] > 1}
        if self.limit and not self._sharded:  # whose documents cannot be tried one by one
            self._doubted = left - {row["step"] for row in culprits}

    @contextmanager
    def watch(self, step: Step) -> Iterator[None]:
        """Run one try of a step; write down what it was made of should it fail.

        Raises:
            FloatingPointError: as it was raised.
            MemoryError: for every kind of exhausted memory; names the samples.

        With several ranks, one that is out of memory ends its process with code `RESTART`, since
        the others wait for its gradients; so does every rank whose step takes too long.
        """
        self._before = [b.clone() for b in self._statistics]
        timer = threading.Timer(self.timeout, self._hang, [step])
        timer.daemon = True
        if self.timeout:
            timer.start()
        try:
            if step.number in self._doubted:
                raise MemoryError(f"step {step.number}: an earlier run ended here, out of memory")
            yield
        except (FloatingPointError, MemoryError, RuntimeError) as error:
            if not (why := cause(error)):
                raise
            self._trace(step, why, str(error))
            if why == NOT_FINITE:
                raise
            _free(error)
            if self.several and step.number not in self._doubted:
                self._leave(f"out of memory in step {step.number}")
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise MemoryError(
                f"out of memory on the samples {', '.join(step.keys())}: nothing was updated. "
                f"Lower data.max_tokens, batch_size or max_length, or look at them. ({first})"
            ) from None
        finally:
            timer.cancel()

    def search(self, step: Step, error: Exception) -> Step:
        """Return a failed step without the samples that break it.

        All ranks call it. Samples are culprits only if others of the step pass: where all fail,
        or a harmless text does, it is the weights.

        Raises:
            Exception: `error`, when no sample is a culprit.
            TooManyBad: more than `limit` were, in this stage.
        """
        number = step.number
        doubted = number in self._doubted
        self._doubted.discard(number)
        self._restore()
        harmless = self.steps.harmless()
        if (
            not self.limit
            or (doubted and self._sharded)
            or any(self._everyone(self._fails(harmless)))
        ):
            raise error
        rows = step.rows()
        culprits = halve(
            rows, lambda some: self._fails(self.steps.subset(some)), self._everyone,
            self.accelerator.process_index, together=not self._sharded,
        )  # fmt: skip
        names = gather_object([(row.item.source, row.entry.where) for row in culprits])
        total = sum(self._everyone(len(rows)))
        if not names and doubted:
            return step
        if not names or len(names) == total > 1:
            raise error
        reason = f"step {number}: {cause(error)}"
        for source, where in sorted(set(names)):
            self._exclude(source, where, number, reason)
            self.accelerator.print(f"left out {where} of {source!r}, {reason}")
            if self.accelerator.is_main_process:
                row = {"event": CULPRIT, "step": number, "source": source, "sample": where}
                append_lines(self.path, [{**row, "reason": reason}])
        return self.steps.again(step)

    @property
    def several(self) -> bool:
        """Tell whether others wait for what this process sends."""
        return self.accelerator.num_processes > 1

    @property
    def _sharded(self) -> bool:
        return isinstance(self.task, FSDPModule)

    def _everyone(self, mine: T) -> list[T]:
        """Return what every rank has, in order of the ranks."""
        return gather_object([mine])

    def _exclude(self, source: str, where: str, step: int, reason: str) -> None:
        self.found += 1
        if self.found > self.limit:
            raise TooManyBad(
                f"{self.found} samples broke a step, the last: {where} of {source!r} ({reason}); "
                f"see {self.path}, mend them, or raise max_offenders ({self.limit})"
            )
        self.steps.exclude(source, where, step, reason)

    def _fails(self, tensors: dict[str, torch.Tensor]) -> bool:
        """Run a batch forward and backward, change nothing, and tell if that fails."""
        task: Any = self.task if self._sharded else getattr(self.task, "module", self.task)
        device = self.accelerator.device
        try:
            set_seed(0)
            for p in task.parameters():
                p.grad = torch.zeros_like(p) if p.requires_grad else None  # as late in a step
            count = (tensors["labels"] != IGNORE_INDEX).sum().clamp(min=1).to(device)
            with self.accelerator.autocast():
                loss = task({k: v.to(device) for k, v in tensors.items()}, count).total
            loss.backward()
            norm = clip(task.parameters(), math.inf)
            return not (math.isfinite(loss.item()) and math.isfinite(norm.item()))
        except (MemoryError, RuntimeError) as error:
            if not cause(error):
                raise
            if self._sharded:
                self._leave("out of memory while looking for the sample that breaks the step")
            _free(error)
            return True
        finally:
            self._restore()

    def _restore(self) -> None:
        """Undo what a forward and a backward leave behind."""
        self.task.zero_grad()
        with torch.no_grad():
            for buffer, value in zip(self._statistics, self._before, strict=True):
                buffer.copy_(value)

    def _hang(self, step: Step) -> NoReturn:
        """End a process whose step takes too long; nothing can take it out of a collective."""
        self._trace(step, TIMEOUT, f"longer than {self.timeout:g} s")
        stacks = self.path.with_name(f"stacks-{self.accelerator.process_index}.txt")
        with stacks.open("w") as file:
            faulthandler.dump_traceback(file)
        self._leave(f"step {step.number} took longer than {self.timeout:g} s; see {stacks}")

    def _leave(self, why: str) -> NoReturn:
        print(f"error: rank {self.accelerator.process_index}: {why}; see {self.path}. The same "
              "command goes on from the last checkpoint.", file=sys.stderr, flush=True)  # fmt: skip
        os._exit(RESTART)  # not sys.exit, which would wait for the other ranks

    def _trace(self, step: Step, why: str, message: str) -> None:
        append_lines(self.path, [{
            "event": "failed", "step": step.number, "why": why, "message": message[:2000],
            "rank": self.accelerator.process_index, "ranks": self.accelerator.num_processes,
            "time": round(time.time(), 3),
            "packs": [{"pack": batch.pack,
                       "documents": describe_documents(batch, self.steps.modalities)}
                      for batch in step.micro],
        }])  # fmt: skip


def _free(error: BaseException) -> None:
    """Free what ran out: the frames that an error went through hold their tensors."""
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def halve(
    samples: Sequence[T],
    fails: Callable[[Sequence[T]], bool],
    everyone: Callable[[int], list[int]],
    rank: int,
    together: bool,
) -> list[T]:
    """Return the samples of this rank that fail alone.

    Every rank tries equally often, with nothing once it is through: engines may need that.

    Args:
        samples: of this rank.
        fails: tries some, or none; all ranks call it at once.
        everyone: gathers a number of every rank.
        rank: this one.
        together: ranks try at the same time; otherwise one after the other, for engines in which
            a failure shows on all ranks.
    """
    work, culprits = [samples] if samples else [], []
    while any(left := everyone(len(work))):
        first = next(r for r, count in enumerate(left) if count)
        some = work.pop() if work and (together or rank == first) else []
        if not fails(some) or not some:
            continue
        if len(some) == 1:
            culprits += some
        else:
            work += [some[: len(some) // 2], some[len(some) // 2 :]]
    return culprits
