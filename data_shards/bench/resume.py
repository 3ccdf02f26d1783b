"""Kill a run at random, again and again: it must go on as if nothing had happened."""

import random
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from omni.files.atomic import write_json

from .data import Bare
from .forked import start, wait
from .life import digest, load, plan_of, write_sources
from .result import Result

THREADS = (0, 1, 2, 3, 5)
EVERY = 3  # batches between two checkpoints
TIMEOUT = 300.0  # seconds without a batch

Tamper = Callable[[dict[str, Any]], dict[str, Any]]


def run(
    folder: Path,
    small: bool = False,
    tamper: Tamper | None = None,
    stops: Sequence[int] | None = None,
) -> Result:
    """Compare a run that is killed with one that is not.

    Args:
        folder: to work in.
        small: 4 kills in 60 batches instead of 20 in 600.
        tamper: changes the state of every checkpoint; to see the bench fail.
        stops: the batch after which each life is killed; by default random ones, in order.
    """
    kills, batches = (4, 60) if small else (20, 600)
    kills = kills if stops is None else len(stops)
    shards = write_sources(folder / "killed", 60 if small else 300)
    shutil.copytree(shards, folder / "whole")  # both index their shards themselves
    expected = _run_whole(folder / "whole", batches)
    lives, rng = [], random.Random(1)
    threads = [THREADS[i % len(THREADS)] for i in range(kills)]
    rng.shuffle(threads)
    # a fifth dies before its first batch: while it scans shards, opens tables, or plans
    at = sorted(0 if i < kills // 5 else rng.randrange(1, batches * 9 // 10) for i in range(kills))
    for number, (workers, stop) in enumerate(zip(threads, stops or at, strict=True)):
        lives.append(_live(shards, batches, workers, stop, rng, number))
        if tamper and (told := load(shards / "checkpoint.json")):
            write_json(shards / "checkpoint.json", {**told, "state": tamper(told["state"])})
    lives.append(_live(shards, batches, 2, None, rng, kills))
    logged = _logged(shards)
    differ = [n for n, found in logged.items() if found != {expected[n]}]
    killed = sum(life["ended by"] == "kill -9" for life in lives)
    identical = sorted(logged) == list(range(batches)) and not differ
    figures: dict[str, Any] = {"identical": identical, "kills": killed}
    figures |= {"batches": batches, "repeated": len(_lines(shards)) - len(logged)}
    if differ:
        figures |= {"first_difference": min(differ), "different": len(differ)}
    return Result(identical and killed == kills, figures, lives)


def train(folder: Path, batches: int, workers: int, pipe: Any, lasts: bool = False) -> None:
    """Read batches as a training run does: log each, checkpoint some, go on where it was.

    Tells the pipe -1 at the start, the number of each batch, and at the end once more that of
    the last, for there may be nothing left to read. With `lasts` it then waits to be killed.
    """
    from ..read.loader import Loader

    pipe.send(-1)
    told = load(folder / "checkpoint.json") or {"batches": 0, "state": None}
    loader = Loader(plan_of(folder, 4), Bare(), workers=workers, prefetch_bytes=1 << 20)
    if told["state"]:
        loader.load_state_dict(told["state"])
    log = (folder / "log").open("a", buffering=1, encoding="ascii")
    left = islice(loader, batches - told["batches"])
    for number, (batch, state) in enumerate(left, told["batches"]):
        log.write(f"{number} {digest(batch)}\n")
        if (number + 1) % EVERY == 0:
            write_json(folder / "checkpoint.json", {"batches": number + 1, "state": state})
        pipe.send(number)
    pipe.send(batches - 1)
    if lasts:
        time.sleep(TIMEOUT)


def _start(folder: Path, batches: int, workers: int, lasts: bool = False) -> tuple[Any, Any]:
    from multiprocessing import Pipe

    ours, theirs = Pipe(duplex=False)
    [process] = start(train, (folder, batches, workers, theirs, lasts), 1, folder)
    theirs.close()
    return process, ours


def _run_whole(folder: Path, batches: int) -> list[str]:
    process, _pipe = _start(folder, batches, 2)
    wait([process], folder)
    return [found.pop() for _, found in sorted(_logged(folder).items())]


def _live(
    folder: Path, batches: int, workers: int, stop: int | None, rng: random.Random, number: int
) -> dict[str, Any]:
    """Run until batch `stop` and a random moment longer, then kill; None: until the end."""
    told = load(folder / "checkpoint.json") or {"batches": 0}
    process, pipe = _start(folder, batches, workers, lasts=stop is not None)
    last = None
    while last is None or stop is None or last < stop - 1:
        if not pipe.poll(TIMEOUT):
            process.kill()
            raise RuntimeError(f"no batch in {TIMEOUT:g} s")
        try:
            last = pipe.recv()
        except EOFError:  # it ended
            break
    if stop is not None:
        time.sleep(rng.uniform(0, 0.03 if stop else 0.3))
        process.kill()
    process.join()
    code = process.exitcode
    ended = "kill -9" if code == -signal.SIGKILL else f"exit {code}"
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"life {number} ended with {code}")
    return {"life": number, "threads": workers, "from batch": told["batches"],
            "to batch": max(_logged(folder), default=-1) + 1, "ended by": ended}  # fmt: skip


def _logged(folder: Path) -> dict[int, set[str]]:
    """Return every digest that was logged of a batch; one that was read again has two lines."""
    found: dict[int, set[str]] = {}
    for number, told in _lines(folder):
        found.setdefault(number, set()).add(told)
    return found


def _lines(folder: Path) -> list[tuple[int, str]]:
    if not (folder / "log").is_file():
        return []
    rows = (line.split() for line in (folder / "log").read_text(encoding="ascii").splitlines())
    return [(int(number), told) for number, told in rows]
