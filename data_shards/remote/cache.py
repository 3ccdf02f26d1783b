"""Remote shards on the local disk: least recently used out first, safe for many at once.

One folder of plain files, shared by all processes of a machine: `DIGEST-NAME` is a whole,
checked shard, `DIGEST-NAME.partial` one that is being fetched. The digest is of the URL and of
the shard's checksum (or the version that the store tells), so a rebuilt shard is another file.

Invariants:
1. A file without `.partial` is whole: it was checked and synced before it was renamed.
2. Who fetches a shard holds the lock of its partial file. Locks end with their process, so a
   killed fetch leaves a file that the next one takes over, or that eviction removes.
3. The sizes of all files never exceed `max_bytes`: a partial file is given its full size
   before the first byte, while no one else may reserve.
4. Who waits for room holds a partial file of size 0, and waits only for files above that size,
   whose holders wait for nothing. So there is no deadlock.
5. An open file survives its eviction. So readers take no lock, and each fetch serves at least
   the reader that asked for it, however small the cache is.
"""

import fcntl
import hashlib
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from omni.files.atomic import put_in_place
from omni.weights import cache_dir

from ..shards.manifest import sha256
from .files import (
    Remote,
    RemoteError,
    chunks,
    file_name,
    is_url,
    local_path,
    manifest_of,
    retrying,
    shown,
    stat,
)
from .prefetch import Prefetch

log = logging.getLogger(__name__)
GIB = 1 << 30
GIB_VARIABLE = "OMNI_SHARD_CACHE_GIB"


def open_shard(ref: str | Path) -> BinaryIO:
    """Open a shard by path or URL for reading; a URL through the cache of this machine.

    That is `$OMNI_CACHE/shards`, which holds up to `$OMNI_SHARD_CACHE_GIB` (64) GiB.

    Raises:
        RemoteError: it cannot be fetched, see `ShardCache.open`.
        OSError: a local path that cannot be opened.
    """
    return shard_cache().open(ref) if is_url(ref) else open(ref, "rb", buffering=0)


def shard_cache() -> "ShardCache":
    """Return the cache that `open_shard` uses, one object for each process."""
    return _cache(cache_dir() / "shards", float(os.environ.get(GIB_VARIABLE) or 64))


@lru_cache
def _cache(folder: Path, gib: float) -> "ShardCache":
    return ShardCache(folder, int(gib * GIB))


class ShardCache:
    """Opens shards by path or URL; what is remote is fetched once and kept while there is room.

    Args:
        folder: where to keep them, on a local disk; `$OMNI_CACHE/shards` unless told.
        max_bytes: what the folder may hold. It should hold the shards that a plan reads at one
            time twice over, or they are fetched again and again (which is logged).
        attempts: how often a failing request is tried before it is an error.
        threads: how many shards `prefetch` fetches at a time.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        max_bytes: int = 64 * GIB,
        attempts: int = 4,
        threads: int = 2,
    ):
        self.folder = Path(folder) if folder else cache_dir() / "shards"
        self.max_bytes, self.attempts, self.threads = max_bytes, attempts, threads
        self.fetched = 0  # shards, by this object
        self._lock = threading.Lock()
        self._remotes: dict[str, tuple[Remote, Path]] = {}
        self._manifests: dict[str, dict] = {}
        self._seen: set[str] = set()
        self._mended: set[str] = set()
        self._ahead = Prefetch(self.open, self.size, max_bytes // 2, threads)

    def __reduce__(self):
        return ShardCache, (self.folder, self.max_bytes, self.attempts, self.threads)

    def open(self, ref: str | Path) -> BinaryIO:
        """Open a shard for reading; the file stays readable when it is evicted meanwhile.

        Raises:
            RemoteError: it cannot be fetched, differs from its manifest, or is larger than the
                whole cache.
            OSError: a local path that cannot be opened.
        """
        local = local_path(ref)
        if local is not None:
            return local.open("rb")
        remote, path = self._known(str(ref))
        while True:
            try:
                file = path.open("rb", buffering=0)
            except FileNotFoundError:
                file = self._fetch(remote, path)
            if file is None:  # another process fetched it, and it was evicted at once
                continue
            if os.fstat(file.fileno()).st_size == remote.size:
                os.utime(file.fileno())  # the clock of eviction
                return file
            file.close()
            log.warning("%s was changed by something else; fetching it again", path)
            path.unlink(missing_ok=True)

    def path(self, ref: str | Path) -> Path:
        """Return where a shard lies; a later fetch may evict it, so open it soon or use `open`."""
        with self.open(ref):
            return local_path(ref) or self._known(str(ref))[1]

    def mend(self, ref: str | Path) -> bool:
        """Drop the local copy of a shard if it is not what was fetched; tell whether it was.

        For readers that met a wrong checksum: True means that reading again is worth it. Where
        there is no sha256 of the shard to tell by, that is once for each shard.
        """
        if not is_url(ref) or local_path(ref) is not None:
            return False
        remote, path = self._known(str(ref))
        with self._lock:
            if ref in self._mended:
                return False
            self._mended.add(str(ref))
            self._seen.discard(str(ref))  # that it is fetched again is not for want of room
        try:
            if remote.sha256 and sha256(path) == remote.sha256:
                return False
        except FileNotFoundError:
            return True
        log.warning("%s differs from what was fetched; fetching it again", path)
        path.unlink(missing_ok=True)
        return True

    def prefetch(self, refs: Iterable[str | Path]) -> None:
        """Fetch in the background what will be read next, in that order; return at once.

        A later call replaces the list. At most half of the cache is filled ahead, so that what
        is being read stays. Errors are left for `open` to meet.
        """
        urls = (str(ref) for ref in refs if local_path(ref) is None)
        self._ahead(list(dict.fromkeys(urls)))

    def size(self, url: str) -> int:
        """Return the bytes of a remote shard; raises RemoteError."""
        return self._known(url)[0].size

    def _known(self, url: str) -> tuple[Remote, Path]:
        """Return what the file must be, by its manifest or else its store, and its place here."""
        if url in self._remotes:
            return self._remotes[url]
        folder = url.rpartition("/")[0]
        if folder not in self._manifests:
            self._manifests[folder] = manifest_of(url, self.attempts) or {}
        facts = self._manifests[folder].get(file_name(url), {})
        if facts.get("sha256"):
            remote = Remote(url, int(facts["bytes"]), "", facts["sha256"])
        else:
            remote = stat(url, self.attempts)
        version = f"{url}\n{remote.size}\n{remote.sha256 or remote.version}"
        digest = hashlib.sha256(version.encode()).hexdigest()[:24]
        return self._remotes.setdefault(url, (remote, self.folder / f"{digest}-{file_name(url)}"))

    def _fetch(self, remote: Remote, path: Path) -> BinaryIO | None:
        """Download, check, put in place and open; None when another process just did it."""
        if remote.size > self.max_bytes:
            raise RemoteError(
                remote.url,
                f"{remote.size:,} bytes do not fit into a cache of {self.max_bytes:,}; "
                "give the cache more bytes, or build smaller shards",
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        with _owned(partial) as file:
            if path.exists():
                partial.unlink()
                return None
            try:
                self._reserve(file, remote.size)
                retrying(remote.url, lambda: _download(remote, file), self.attempts)
                put_in_place(partial, path)
            except BaseException:
                partial.unlink(missing_ok=True)  # gives the room back
                raise
            self._count(remote.url)
            return path.open("rb", buffering=0)  # while the lock keeps eviction away (invariant 5)

    def _reserve(self, file: BinaryIO, size: int) -> None:
        """Evict until `size` bytes fit, then take them by giving the partial file its size."""
        while True:
            with (self.folder / ".lock").open("w") as gate:
                fcntl.flock(gate, fcntl.LOCK_EX)
                busy = self._evict(self.max_bytes - size)
                if busy is None:
                    file.truncate(size)
                    return
            with busy:
                fcntl.flock(busy, fcntl.LOCK_EX)  # until that fetch has ended

    def _evict(self, room: int) -> BinaryIO | None:
        """Remove the least recently used until `room` holds the rest; else a file to wait for."""
        files = [
            (found.st_mtime_ns, found.st_size, Path(entry.path))
            for entry in os.scandir(self.folder)
            if entry.name != ".lock" and (found := _stat(entry.path))
        ]
        total, busy = sum(size for _, size, _ in files), None
        for _, size, path in sorted(files):
            if total <= room:
                break
            try:
                file = path.open("rb")
            except FileNotFoundError:  # a partial file was renamed since: it is counted again
                return self._evict(room)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if size and busy is None:  # an empty one may be our own (invariant 4)
                    busy = file
                else:
                    file.close()
                continue
            path.unlink(missing_ok=True)
            file.close()
            total -= size
        return None if total <= room else busy

    def _count(self, url: str) -> None:
        with self._lock:
            self.fetched += 1
            again, _ = url in self._seen, self._seen.add(url)
        if again:
            log.warning(
                "%s was evicted and is fetched again: the cache of %d bytes is too small for "
                "this plan; enlarge it, or shuffle within fewer shards",
                shown(url), self.max_bytes,
            )  # fmt: skip


@contextmanager
def _owned(partial: Path) -> Iterator[BinaryIO]:
    """Hold a partial file alone, emptied; another's fetch of the same shard is waited for."""
    while True:
        file = os.fdopen(os.open(partial, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            now = _stat(partial)
            if now is None or not os.path.samestat(now, os.fstat(file.fileno())):
                continue  # it was renamed or removed while we waited
            file.truncate(0)  # before anything is waited for (invariant 4)
            yield file
            return


def _stat(path: str | Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _download(remote: Remote, file: BinaryIO) -> None:
    """Fill `file`; any exception is worth another attempt."""
    digest, size = hashlib.sha256(), 0
    file.seek(0)
    for piece in chunks(remote.url):
        size += len(piece)
        if size > remote.size:
            break
        file.write(piece)
        digest.update(piece)
    file.flush()
    if size != remote.size:
        raise OSError(f"{size:,} bytes came, not {remote.size:,}: cut off or changed meanwhile")
    if remote.sha256 and digest.hexdigest() != remote.sha256:
        raise OSError("the contents differ from the sha256 of its manifest.json")
