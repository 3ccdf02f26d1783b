"""lmms-eval in a process of its own.

What it does to random states, streams and modules, it does to itself alone.
"""

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

from .answering.answerer import Answerer, Messages
from .lmms.bridge import prepare
from .lmms.judge import Judge
from .lmms.official import Official
from .rows.own import Own
from .scoring.right import Scored


class Harness:
    """Runs the official rows of a suite in another process; what they ask is answered in this one.

    The other process ends with the context, and with this process, however that ends.

    Args:
        suite, data: as `evaluate` takes them.
    """

    def __init__(self, suite: Any, data: Path | None) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would lack threads and GPUs
        self.pipe, self.theirs = context.Pipe()
        arguments = self.theirs, suite, data
        self.process = context.Process(target=_serve, args=arguments, daemon=True)

    def __enter__(self) -> "Harness":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.pid is not None:
            self.process.kill()
            self.process.join()

    def start(self) -> None:
        """Start the process, which imports lmms-eval, unless it runs; `run` does so."""
        if self.process.pid is None:
            self.process.start()
            self.theirs.close()

    def run(
        self, row: Official | Own, answerer: Answerer, source: Any, condition: str,
        limit: int | None, scratch: Path,
    ) -> Scored:  # fmt: skip
        """Do what `row.run` does, and raise what it raises; rows of our own stay here.

        Raises:
            RuntimeError: the other process is gone.
        """
        if not isinstance(row, Official):
            return row.run(answerer, source, condition, limit, scratch)
        self.start()
        # its functions cannot be sent
        judge = row.judge.name if row.judge else ""
        self.tell(row.name, row.most, condition, limit, scratch, judge)
        cause = None
        asks = {"model": answerer} | ({"judge": row.judge.answerer} if row.judge else {})
        while True:
            match self.hear():
                case "ask", who, *asked:
                    cause = self._answer(asks[who], *asked)
                case "scored", scored:
                    return scored
                case "failed", error:
                    raise error from cause

    def _answer(self, answerer: Answerer, number: int, *about: Any) -> Exception | None:
        before = len(answerer.problems)
        try:
            texts = answerer(_Conversations(self, number), *about)
        except Exception as error:  # the row there fails of it, and may still be scored or named
            self.tell("failed", _portable(error))
            return error
        self.tell("answered", texts, answerer.problems[before:])
        return None

    def tell(self, *message: Any) -> None:
        """Send; raises RuntimeError, as `hear` does, where the other process is gone."""
        with self._alive():
            self.pipe.send(message)

    def hear(self) -> Any:
        """Wait for what the other process sends."""
        with self._alive():
            return self.pipe.recv()

    @contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError) as error:
            self.process.join()
            code = self.process.exitcode
            raise RuntimeError(
                f"the process of lmms-eval ended with {code}; what it printed stands above"
            ) from error


class _Conversations(Sequence[Messages]):
    """Of the other process, which makes each when it is asked for."""

    def __init__(self, harness: Harness, number: int) -> None:
        self.harness, self.number = harness, number
        self.lock = threading.Lock()  # a batch is made ready in a thread

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, place: Any) -> Any:
        with self.lock:
            self.harness.tell("show", place)
            kind, found = self.harness.hear()
        if kind == "failed":
            raise found
        return found


class _Asking:
    """In the other process, what stands for the `Answerer` of the model or of the judge."""

    def __init__(self, pipe: Connection, who: str) -> None:
        self.pipe, self.who = pipe, who
        self.problems: list[str] = []

    def __call__(self, conversations: Sequence[Messages], *about: Any) -> list[str]:
        self.pipe.send(("ask", self.who, len(conversations), *about))
        while True:
            match self.pipe.recv():
                case "show", place:
                    self.pipe.send(_attempt("shown", conversations.__getitem__, place))
                case "answered", texts, problems:
                    self.problems += problems
                    return texts
                case "failed", error:
                    raise error


def _serve(pipe: Connection, suite: Any, data: Path | None) -> None:
    """Run rows as they are wanted."""
    from tqdm import tqdm

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which Python misses after a kill
    prepare()
    from .suites.registry import suite_of

    rows: dict[str, Any] = {row.name: row for row in suite_of(suite).rows}
    source = cache(lambda: suite_of(suite).open(data))

    def run(
        name: str, most: int | None, condition: str, limit: int | None, scratch: Path, judge: str
    ) -> Scored:
        row, judging = replace(rows[name], most=most), cast(Answerer, _Asking(pipe, "judge"))
        if judge:
            row = replace(row, judge=Judge(judging, judge, ""))
        return row.run(_Asking(pipe, "model"), source(), condition, limit, scratch)

    with suppress(EOFError, ConnectionError):
        while True:
            pipe.send(_attempt("scored", run, *pipe.recv()))


def _attempt(kind: str, make: Callable[..., Any], *of: Any) -> tuple[str, Any]:
    """What to send: what is made, or why it is not."""
    try:
        return kind, make(*of)
    except Exception as error:
        return "failed", _portable(error)


def _portable(error: Exception) -> Exception:
    """The error with where it was raised; what it says, where it cannot be sent itself."""
    try:
        found = pickle.loads(pickle.dumps(error))
    except Exception:
        found = RuntimeError(f"{type(error).__name__}: {error}")
    found.add_note("".join(traceback.format_exception(error)))
    return found


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # a killed evaluation may be running again, on the same files
