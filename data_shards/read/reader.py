"""Call a function on many samples: in threads, in order, within memory and time.

Workers hold no state: they take the next sample from one queue, so their number changes nothing
but the speed. Nothing here sleeps; a wait ends when something happens, or its time is over.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import numpy as np

from ..shards.shard import Bad, BadSample, Entry

Tag = TypeVar("Tag")
Outcome = tuple[str, Any]
MOST_AHEAD = 1024  # samples: where all are tiny, a bound in bytes would plan far ahead
FIRST_GROWTH = 40.0  # bytes of pixels for one of a file, until it was measured


class _Task:
    """One sample on its way; `done` is released once `outcome` is there."""

    __slots__ = ("claim", "done", "outcome", "request")

    def __init__(self, request: Any):
        self.request = request
        self.outcome: Outcome = ("", None)
        self.claim, self.done = threading.Lock(), threading.Lock()
        self.done.acquire()

    def settle(self, outcome: Outcome) -> bool:
        """Set the outcome unless there is one."""
        if not self.claim.acquire(blocking=False):
            return False
        self.outcome = outcome
        self.done.release()
        return True


class _Worker(threading.Thread):
    """Calls the function on one task after the other."""

    def __init__(
        self,
        call: Callable[[Any], Any],
        prepare: Callable[[Any], None],
        tasks: SimpleQueue,
    ):
        super().__init__(name="read", daemon=True)  # a stuck one must not keep the program alive
        self.call, self.prepare, self.tasks, self.retired = call, prepare, tasks, False
        self.now: tuple[_Task, float] | None = None  # what it is at, and since when
        self.start()

    def run(self) -> None:
        while not self.retired and (task := self.tasks.get()) is not None:
            outcome = attempt(self.prepare, task.request)
            if outcome[0] == "good":
                self.now = task, time.monotonic()
                outcome = attempt(self.call, task.request)
            task.settle(outcome)
            self.now = None


class Reader(Generic[Tag]):
    """Calls `call(request)` for every sample of the jobs it is given.

    Args:
        call: takes a request, which has an `entry`; returns anything or raises BadSample. Any
            other exception ends the reading.
        size: bytes that a result holds.
        workers: how many; 0 calls in the thread that iterates, where `timeout` cannot work.
        prefetch_bytes: what may wait to be asked for, besides one job. It is known before
            reading, from the spans of the samples and how much samples have grown so far.
        timeout: seconds for one sample; then its worker is replaced.
        retries: how often a sample is tried again that was not there or not in time.
        prepare: called with a request before its time begins, such as for a slow network.
    """

    def __init__(
        self,
        call: Callable[[Any], Any],
        size: Callable[[Any], int],
        workers: int = 2,
        prefetch_bytes: int = 256 << 20,
        timeout: float = 120.0,
        retries: int = 1,
        prepare: Callable[[Any], None] = lambda request: None,
    ):
        self.call, self.size, self.workers = call, size, workers
        self.prefetch_bytes, self.timeout, self.retries = prefetch_bytes, timeout, retries
        self.prepare = prepare
        self.read = self.grown = 0  # bytes on disk, and of the results made of them

    def run(
        self, jobs: Iterable[tuple[Tag, Sequence[Any]]]
    ) -> Iterator[tuple[Tag, list[Any | Bad]]]:
        """Yield each job's tag and results in order; a Bad stands where a sample is bad."""
        keep_freed_memory()
        self._tasks: SimpleQueue = SimpleQueue()
        self._pool = [self._worker(self._tasks) for _ in range(self.workers)]
        waiting: deque[tuple[Tag, list[_Task], int]] = deque()
        limit = self.prefetch_bytes if self.workers else 0
        ahead = samples = yielded = 0
        try:
            for tag, requests in jobs:
                span = sum(request.entry.span for request in requests)
                # 7. Read ahead is what was submitted and not yielded; one job always may be.
                #    It grows by a job with each one yielded: the first need not wait for all.
                while waiting and (
                    (ahead + span) * self.growth > limit
                    or samples + len(requests) > MOST_AHEAD
                    or len(waiting) > yielded + self.workers
                ):
                    first, tasks, size = waiting.popleft()
                    ahead, samples = ahead - size, samples - len(tasks)
                    yield first, self._results(tasks)
                    yielded += 1
                tasks = [_Task(request) for request in requests]
                if self.workers:
                    for task in tasks:
                        self._tasks.put(task)
                waiting.append((tag, tasks, span))
                ahead, samples = ahead + span, samples + len(tasks)
            for first, tasks, _ in waiting:
                yield first, self._results(tasks)
        finally:
            self._close()

    @property
    def growth(self) -> float:
        """Return how many bytes a result holds for one byte read."""
        return max(1.0, self.grown / self.read) if self.read else FIRST_GROWTH

    def _worker(self, tasks: SimpleQueue) -> _Worker:
        return _Worker(self.call, self.prepare, tasks)

    def _results(self, tasks: list[_Task]) -> list[Any | Bad]:
        """Wait for the last task first: the others are done by then, or nearly, so this thread
        is woken once and not by each of them.
        """
        return [self._finish(task) for task in reversed(tasks)][::-1]

    def _finish(self, task: _Task) -> Any | Bad:
        """Wait for a task; try again what was not there or not in time."""
        kind, value = self._outcome(task)
        for _ in range(self.retries):
            if kind != "unread":
                break
            kind, value = self._outcome(self._again(task.request))
        if kind == "bug":
            raise value
        if kind == "good":
            self.read += task.request.entry.span
            self.grown += self.size(value)
        return value

    def _again(self, request: Any) -> _Task:
        """Submit a sample to a worker of its own: it must not wait behind what is read ahead."""
        task = _Task(request)
        if self.workers:
            tasks: SimpleQueue = SimpleQueue()
            for one in (task, None):
                tasks.put(one)
            self._pool.append(self._worker(tasks))
        return task

    def _outcome(self, task: _Task) -> Outcome:
        if not self.workers:
            return attempt(self.call, task.request)
        # 8. The clock of a task starts when a worker takes it, and all workers are watched, not
        #    only the one that is waited for. One that is too slow is replaced and what it still
        #    says is not heard, so `workers` of them always make progress.
        #    Most are done by now, and need no patience worked out.
        while not (task.done.acquire(False) or task.done.acquire(timeout=self._patience())):
            for worker in list(self._pool):
                self._replace_if_stuck(worker)
        return task.outcome

    def _patience(self) -> float:
        """Return the seconds until the first worker will be too slow."""
        at = [now[1] for worker in self._pool if (now := worker.now)]
        return max(1e-3, min(at, default=time.monotonic()) + self.timeout - time.monotonic())

    def _replace_if_stuck(self, worker: _Worker) -> None:
        now = worker.now
        if now is None or time.monotonic() < now[1] + self.timeout:
            return
        reason = f"no answer within {self.timeout:g} s"
        if now[0].settle(("unread", bad_at(now[0].request.entry, reason))):
            worker.retired = True
            self._pool.remove(worker)
            if worker.tasks is self._tasks:
                self._pool.append(self._worker(self._tasks))

    def _close(self) -> None:
        while not self._tasks.empty():
            self._tasks.get()
        for _ in self._pool:
            self._tasks.put(None)
        for worker in self._pool:
            worker.join(timeout=5.0)


@cache
def keep_freed_memory() -> None:
    """Let malloc keep up to 62 MB of freed results for the next ones, once in a process.

    Fresh memory costs a fault for each of its pages, half as much as decoding into them does
    in a virtual machine. glibc learns from the largest block freed so far, up to 32 MB, what to
    take from the system block by block, and how much that is free to give back (twice as much).
    """
    np.empty(31 << 20, np.uint8)


def attempt(call: Callable[[Any], Any], request: Any) -> Outcome:
    """Call; return ("good", result), ("unread" or "bad", Bad) or ("bug", exception)."""
    try:
        return "good", call(request)
    except BadSample as error:
        return "unread" if isinstance(error.__cause__, OSError) else "bad", error.bad
    except BaseException as error:  # not of the data: it must reach whoever reads
        return "bug", error


def bad_at(entry: Entry, reason: str) -> Bad:
    """Name a sample with what is wrong with it."""
    return Bad(entry.where.rpartition(":")[0], entry.key, entry.offset, reason)
