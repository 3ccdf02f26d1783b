"""Files behind URLs: find them, read them, and say which one failed and why."""

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from ..shards.manifest import MANIFEST

log = logging.getLogger(__name__)
T = TypeVar("T")

BLOCK = 16 << 20  # bytes of one request, where a store serves ranges
WAIT = 0.5  # seconds before the second attempt, doubled before each further one
STALLED, CONNECT = 60.0, 15.0  # seconds without a byte after which a web server is given up
_URL = re.compile(r"[a-zA-Z][\w+.-]+(://|::)")
# what a store may tell of a file's version; size alone misses a shard that was rebuilt
_VERSION = ("ETag", "etag", "Content-MD5", "Last-Modified", "LastModified", "mtime", "created")
_PERMANENT = (ImportError, IsADirectoryError, ValueError)
# S3 says "forbidden" of a missing file to whom may not list
_MISSING = (401, 403, 404, 410)


class RemoteError(OSError):
    """A URL that cannot be read; the text names it, the reason and what to do."""

    def __init__(self, url: str, reason: str, missing: bool = False):
        super().__init__(f"{shown(url)}: {reason}")
        self.url, self.reason, self.missing = url, reason, missing


@dataclass(frozen=True)
class Remote:
    """A file behind a URL: `size` in bytes, and a `version` that changes when the file does."""

    url: str
    size: int
    version: str
    sha256: str = ""  # of the manifest beside it; empty where there is none


@lru_cache(1 << 14)  # asked for every sample
def is_url(ref: str | Path) -> bool:
    """Tell whether `ref` has to be read through fsspec; a plain path has not."""
    return isinstance(ref, str) and bool(_URL.match(ref))


def local_path(ref: str | Path) -> Path | None:
    """Return the path that `ref` is or means (`file://...`), None for any other URL."""
    if not is_url(ref):
        return Path(ref)
    parts = urlsplit(str(ref))
    return Path(unquote(parts.path)) if parts.scheme in ("file", "local") else None


def shown(url: str) -> str:
    """Return the URL as it may be logged: without password and signature."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def beside(url: str, name: str) -> str:
    """Return the URL of the file `name` in the folder of `url`; a signature is kept."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rpartition('/')[0]}/{name}"))


def file_name(url: str) -> str:
    """Return the last component of the URL's path."""
    return unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]


def find(pattern: str, attempts: int = 4) -> list[str]:
    """Expand a URL with braces or wildcards, or of a folder (its train shards), to file URLs.

    Raises:
        RemoteError: nothing is there, or it cannot be listed.
    """
    from braceexpand import braceexpand

    found: list[str] = []
    for url in braceexpand(pattern):
        wild = "*[" if url.startswith("http") else "*[?"  # there, "?" begins a query
        if any(c in url for c in wild):
            found += _glob(url, attempts)
        elif file_name(url).endswith(".tar"):
            found.append(url)
        else:
            found += _of_folder(url, attempts)
    return sorted(set(found))


def _of_folder(url: str, attempts: int) -> list[str]:
    """List the train shards of a folder: by its manifest, because web servers may list nothing."""
    inside = beside(url.rstrip("/") + "/", "train-*.tar")
    manifest = manifest_of(inside, attempts)
    if manifest is None:
        return _glob(inside, attempts)
    return [beside(inside, name) for name in sorted(manifest) if name.startswith("train-")]


def _glob(url: str, attempts: int) -> list[str]:
    def listing() -> list[str]:
        fs, path = _open_store(url)
        return [str(fs.unstrip_protocol(hit)) for hit in fs.glob(path)]

    hits = retrying(url, listing, attempts)
    if not hits:
        raise RemoteError(url, "no shard matches; mend the URL, or name the shards one by one")
    return hits


def manifest_of(url: str, attempts: int = 4) -> dict[str, dict[str, Any]] | None:
    """Return {shard name: facts} of the manifest beside a shard, None where there is none."""
    place = beside(url, MANIFEST)
    try:
        shards = json.loads(read_bytes(place, attempts)).get("shards")
    except RemoteError as error:
        if error.missing:
            return None
        raise RemoteError(url, f"its manifest cannot be read: {error.reason}") from error
    except (ValueError, AttributeError) as error:
        log.warning("%s is no manifest (%s): sizes are checked, contents are not", place, error)
        return None
    return shards if isinstance(shards, dict) else None


def stat(url: str, attempts: int = 4) -> Remote:
    """Ask the store for a file's size and version.

    Raises:
        RemoteError: it is not there, cannot be asked, or the store does not know its size.
    """

    def ask() -> dict[str, Any]:
        fs, path = _open_store(url)
        return fs.info(path)

    info = retrying(url, ask, attempts)
    if not info.get("size"):
        raise RemoteError(url, "the store tells no size, or the file is empty")
    version = [str(info[key]) for key in _VERSION if info.get(key)]
    return Remote(url, int(info["size"]), ";".join(version))


def read_bytes(url: str, attempts: int = 4) -> bytes:
    """Read a small file, such as an index, whole.

    Raises:
        RemoteError: it is not there, or cannot be read.
    """
    return retrying(url, lambda: b"".join(chunks(url)), attempts)


def chunks(url: str) -> Iterator[bytes]:
    """Yield the contents of a file in pieces of at most `BLOCK` bytes, from the store as it is."""
    fs, path = _open_store(url)
    # one request for the whole file on the web, where servers may not know ranges
    size = 0 if url.startswith("http") else BLOCK
    with fs.open(path, "rb", block_size=size, cache_type="readahead") as file:
        while piece := file.read(BLOCK):
            yield piece


def retrying(url: str, action: Callable[[], T], attempts: int) -> T:
    """Do `action` until it succeeds; what cannot get better is not tried again.

    Args:
        url: what the error is about.
        action: raises anything when it fails, as the stores do.
        attempts: how often to try in all.

    Raises:
        RemoteError: the last attempt failed; its cause is what the store said.
    """
    for attempt in range(1, attempts + 1):
        try:
            return action()
        except RemoteError:
            raise
        except Exception as failure:  # every store raises errors of its own
            error, missing = _cause(failure)
            hopeless = missing or isinstance(error, _PERMANENT)
            reason = _reason(error)
            if hopeless or attempt == attempts:
                tried = "" if hopeless else f" ({attempts} attempts)"
                raise RemoteError(url, reason + tried, missing) from error
            log.warning("%s: %s; attempt %d of %d", shown(url), reason, attempt, attempts)
            time.sleep(WAIT * 2 ** (attempt - 1))
    raise AssertionError("unreachable: attempts is at least 1")


def _cause(error: BaseException) -> tuple[BaseException, bool]:
    """Return what went wrong, and whether it is that the file is not there (for us)."""
    if isinstance(error, FileNotFoundError) and error.__cause__:
        error = error.__cause__  # fsspec calls every failure of a web server a missing file
    status = getattr(error, "status", 0)
    return error, isinstance(error, FileNotFoundError | PermissionError) or status in _MISSING


def _reason(error: BaseException) -> str:
    if isinstance(error, ImportError):
        return f"{error}; install the extra: omni-stages[remote]"
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, PermissionError):
        return f"access denied ({error}); check the credentials"
    text = str(error) or type(error).__name__
    return re.sub(r"\?\S+", "", text)  # a signed URL inside the message


def _open_store(url: str) -> tuple[Any, str]:
    from fsspec.config import conf  # here, so that local shards do without
    from fsspec.core import url_to_fs

    options: dict[str, Any] = {}
    if url.startswith("http") and "http" not in conf:
        import aiohttp

        # the default ends a request after five minutes, however well it goes
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=STALLED)
        options["client_kwargs"] = {"timeout": timeout}
    return url_to_fs(url, **options)
