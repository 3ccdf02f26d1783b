"""The index of remote shards: its tables are fetched once and mapped from the local disk."""

import json
import shutil
from hashlib import sha256
from pathlib import Path

from omni.files.atomic import replacing, write_json
from omni.files.lock import exclusive
from omni.weights import cache_dir

from ..remote.files import RemoteError, beside, chunks, find, read_bytes, retrying, shown
from .sidecar import HOME, LISTING, SCHEMA, Sidecar

TABLES = ("samples.npy", "parts.npy", "keys.npy")
_ADVICE = f"run `omni-shards index` where the shards lie, and upload {HOME}/ with them"


def remote_sidecars(pattern: str) -> list[tuple[Sidecar, list[str]]]:
    """Return the tables of each folder that a URL names shards of, and those shards' names.

    Only the index is fetched; tables that did not change since are not fetched again.

    Raises:
        RemoteError: nothing is there, or it has no index of these shards.
    """
    folders: dict[str, list[str]] = {}
    for url in find(pattern):
        folders.setdefault(beside(url, ""), []).append(url)
    found = []
    for folder, urls in folders.items():
        side = _fetch(folder)
        names = {side.place(shard): shard.name for shard in side.shards}
        for url in urls:
            if url not in names:
                raise RemoteError(url, f"the index beside it does not list it; {_ADVICE}")
        found.append((side, [names[url] for url in urls]))
    return found


def _fetch(folder: str) -> Sidecar:
    try:
        listing = json.loads(read_bytes(beside(folder, f"{HOME}/{LISTING}")))
    except RemoteError as error:
        if not error.missing:
            raise
        raise RemoteError(folder, f"there is no index beside the shards; {_ADVICE}") from error
    except ValueError as error:
        raise RemoteError(folder, f"its index is damaged ({error}); {_ADVICE}") from error
    if not isinstance(listing, dict) or listing.get("schema") != SCHEMA:
        raise RemoteError(folder, f"its index is of another version; {_ADVICE}")
    tables = str(listing["tables"])
    if not tables.isalnum():
        raise RemoteError(folder, f"its index names no tables: {tables!r}")
    home = cache_dir() / "index" / sha256(shown(folder).encode()).hexdigest()[:16]
    with exclusive(home / "index"):
        if not (home / tables).is_dir():
            with replacing(home / tables) as building:
                building.mkdir()
                for name in TABLES:
                    _download(beside(folder, f"{HOME}/{tables}/{name}"), building / name)
            for path in home.iterdir():  # what is mapped by someone stays readable for him
                if path.is_dir() and path.name != tables:
                    shutil.rmtree(path, ignore_errors=True)
        write_json(home / LISTING, listing)
    return Sidecar(folder, home, listing)


def fetch_table(side: Sidecar, name: str) -> None:
    """Fetch a further table of a remote index if it has that one, such as token counts."""
    url = beside(str(side.folder), f"{HOME}/{side.tables.name}/{name}")
    try:
        with replacing(side.tables / name, shared=True) as scratch:
            _download(url, scratch)
    except RemoteError as error:
        if not error.missing:
            raise


def _download(url: str, path: Path) -> None:
    def fill() -> None:
        with path.open("wb") as file:
            file.writelines(chunks(url))

    retrying(url, fill, 4)
