"""Fetch in the background what will be read next."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import BinaryIO

log = logging.getLogger(__name__)


class Prefetch:
    """Opens URLs ahead of their readers, in order, until `room` bytes are.

    Args:
        open_: fetches a URL and opens it.
        size: tells its bytes.
        room: bytes that one list of URLs may take.
        threads: how many are fetched at a time.
    """

    def __init__(
        self,
        open_: Callable[[str], BinaryIO],
        size: Callable[[str], int],
        room: int,
        threads: int,
    ):
        self._open, self._size, self.room, self.threads = open_, size, room, threads
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # one after the other asks for a size: room is given in order
        self._asked: list[str] = []
        self._wanted: deque[str] = deque()
        self._left = self._workers = 0

    def __call__(self, urls: list[str]) -> None:
        """Take these URLs in place of those that were not begun yet."""
        with self._lock:
            if urls == self._asked:
                return
            self._asked, self._wanted, self._left = urls, deque(urls), self.room
            while self._workers < min(self.threads, len(urls)):
                self._workers += 1
                # daemons, so that a process can end in the middle of a fetch
                threading.Thread(target=self._work, name="prefetch", daemon=True).start()

    def _work(self) -> None:
        while (url := self._next()) is not None:
            try:
                self._open(url).close()
            except OSError as error:  # its reader will meet it too
                log.debug("prefetch: %s", error)

    def _next(self) -> str | None:
        """Take the next URL that there is room for; None ends the worker."""
        with self._turn:
            while True:
                with self._lock:
                    if not self._wanted:
                        self._workers -= 1
                        return None
                    url, asked = self._wanted.popleft(), self._asked
                try:
                    size = self._size(url)
                except OSError as error:
                    log.debug("prefetch: %s", error)
                    continue
                with self._lock:
                    if asked is not self._asked:
                        continue
                    self._left -= size
                    if self._left >= 0:
                        return url
                    self._wanted.clear()
