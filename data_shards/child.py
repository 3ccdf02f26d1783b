"""A process that calls a function for one thread, and may be killed or die without harm."""

import multiprocessing
import pickle
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from .shard import Bad, BadSample


class Child:
    """Calls `function(request)` in a process of its own, started when it is first needed.

    Raises:
        BadSample: the function did, or the process died; it is started anew for the next call.
        RuntimeError: any other exception in the process, as text.
    """

    def __init__(self, function: Callable[[Any], Any]):
        self.function = function
        self.process: Any = None
        self._pipe: Any = None

    def __call__(self, request: Any) -> Any:
        if self.process is None:
            context = multiprocessing.get_context("spawn")  # fork and threads do not mix
            self._pipe, theirs = context.Pipe()
            self.process = context.Process(target=_serve, args=(theirs, self.function), daemon=True)
            self.process.start()
            theirs.close()  # so that the death of the process ends the pipe
        try:
            self._pipe.send_bytes(pickle.dumps(request))
            kind, value = pickle.loads(self._pipe.recv_bytes())
        except (EOFError, OSError) as error:
            process, self.process = self.process, None
            process.join()
            entry = request.entry
            reason = f"its reader process died with exit code {process.exitcode}"
            bad = Bad(entry.where.rpartition(":")[0], entry.key, entry.offset, reason)
            raise BadSample(bad) from OSError(str(error))
        if kind == "bug":
            raise RuntimeError(f"in a reader process:\n{value}")
        if kind == "good":
            return value
        raise BadSample(value) from (OSError() if kind == "unread" else None)

    def stop(self) -> None:
        """Kill the process; a call under way raises BadSample."""
        if (process := self.process) is not None:
            process.kill()


def _serve(pipe: Connection, function: Callable[[Any], Any]) -> None:
    from .reader import attempt, keep_freed_memory

    keep_freed_memory()
    while True:
        try:
            request = pickle.loads(pipe.recv_bytes())
        except (EOFError, KeyboardInterrupt):
            return
        kind, value = attempt(function, request)
        if kind == "bug":  # the exception itself may not be picklable
            value = "".join(traceback.format_exception(value))
        pipe.send_bytes(pickle.dumps((kind, value), protocol=5))
