"""Shards that stay open: to open one takes as long as to read a sample of it."""

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ..remote.cache import open_shard
from ..remote.files import is_url

MOST = 64  # shards; a process may open 1024 files


class Descriptor:
    """An open shard, closed once nobody holds it: a thread may read what another lets go.

    Raises:
        RemoteError, OSError: see `open_shard`.
    """

    __slots__ = ("number",)

    def __init__(self, ref: str):
        if is_url(ref):
            with open_shard(ref) as file:
                self.number = os.dup(file.fileno())
        else:
            self.number = os.open(ref, os.O_RDONLY)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # bound above, because at the end of the program this may outlive the module's names
        if hasattr(self, "number"):
            close(self.number)


class Opener:
    """Opens shards and keeps the local ones open, the least recently used of `most` closed first.

    One that is replaced meanwhile is read as it was. Those from elsewhere are left to their cache,
    which could not make room as long as they are open.
    """

    def __init__(self, most: int = MOST):
        self.most = most
        self._kept = lru_cache(most)(Descriptor)

    def __call__(self, ref: str) -> Descriptor:
        return Descriptor(ref) if is_url(ref) else self._kept(ref)

    def forget(self) -> None:
        """Open all anew: a network file system may have lost them."""
        self._kept.cache_clear()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Opener, (self.most,)
