"""Processes of a bench: ranks of a training, or an evaluation that is to be killed.

They are forked from one process that has imported everything and done nothing: an interpreter of
its own would spend seven seconds importing, and a bench starts a dozen.
"""

import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

MINUTES = 4  # a rank that takes longer hangs
IMPORTED = [  # what takes the seconds; our own modules take none
    "torch", "torch.distributed.checkpoint", "torch.distributed.fsdp", "torchaudio", "accelerate",
    "timm", "datasets", "transformers.modeling_utils", "transformers.models.auto.modeling_auto",
    "transformers.processing_utils", "transformers.generation.utils",
]  # fmt: skip


def start(
    target: Callable[..., Any], arguments: Sequence[Any], ranks: int, folder: Path
) -> list[BaseProcess]:
    """Call a function of a module in each of so many ranks, in one thread each.

    What they print goes to `folder/stderr`.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    processes: list[BaseProcess] = [
        context.Process(target=_rank, args=(place, folder / "stderr", target, arguments))
        for place in _places(ranks)
    ]
    for process in processes:
        process.start()
    return processes


def _places(ranks: int) -> list[dict[str, str]]:
    """Return what `torchrun` would tell each of so many ranks."""
    if ranks == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meet = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{"RANK": str(rank), "LOCAL_RANK": str(rank), **meet} for rank in range(ranks)]


def _rank(
    place: dict[str, str], log: Path, target: Callable[..., Any], arguments: Sequence[Any]
) -> None:
    import torch
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which Python misses after a kill
    os.environ.update(place, ACCELERATE_USE_CPU="true")
    with log.open("a") as told:
        for stream in (1, 2):
            os.dup2(told.fileno(), stream)
    torch.set_num_threads(1)
    target(*arguments)


def wait(processes: list[BaseProcess], folder: Path, expected: int = 0) -> None:
    """Wait for ranks to end as expected.

    Raises:
        RuntimeError: one ended otherwise (all are killed then), or none did in `MINUTES`.
    """
    end = time.monotonic() + 60 * MINUTES
    try:
        while any(process.is_alive() for process in processes):
            bad = [p.exitcode for p in processes if p.exitcode not in (None, expected)]
            if bad or time.monotonic() > end:
                why = f"ended with {bad[0]}" if bad else f"still ran after {MINUTES} minutes"
                raise RuntimeError(f"a rank {why}: {_tail(folder)}")
            time.sleep(0.05)
    finally:
        for process in processes:
            process.kill()
            process.join()
    if codes := {process.exitcode for process in processes} - {expected}:
        raise RuntimeError(f"a rank ended with {codes}: {_tail(folder)}")


def _tail(folder: Path) -> str:
    lines = (folder / "stderr").read_text(encoding="utf-8", errors="replace").splitlines()
    return " | ".join(lines[-3:])
