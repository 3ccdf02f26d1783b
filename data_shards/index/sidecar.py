"""The tables of one folder of shards: scanned once, written whole, found current or made again."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import astuple, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.lib.format import open_memmap

from omni.files.atomic import replacing, write_json
from omni.files.lock import exclusive
from omni.media.facts import KINDS
from omni.weights import cache_dir

from ..remote.files import beside
from ..shards.shard import Bad
from .rows import PART, SAMPLE, Rows, scan_rows

HOME = ".data_shards"
LISTING = "index.json"
SCHEMA = 4  # of the tables: raise it when they, or the facts in them, change their meaning
UNKNOWN = 2**32 - 1  # a token count that was not asked for yet
Progress = Callable[[int, int], None]  # bytes of shards done, and of all to do


@dataclass(slots=True)
class Shard:
    """One shard as it was scanned: its rows are those from `first` on, likewise parts and keys."""

    name: str
    bytes: int
    mtime_ns: int
    digest: str  # of all its rows
    rows: int
    parts: int
    keys: int
    bad: list[list[Any]]
    first: int = 0
    first_part: int = 0
    first_key: int = 0


class Sidecar:
    """What `home` holds of the shards in `folder`, a path or a URL; memory-mapped."""

    def __init__(self, folder: Path | str, home: Path, listing: dict[str, Any]):
        self.folder, self.home, self.names = folder, home, listing["names"]
        self.tables = home / listing["tables"]
        self.shards = [Shard(*row) for row in listing["shards"]]
        at = [0, 0, 0]
        for shard in self.shards:
            shard.first, shard.first_part, shard.first_key = at
            at = [at[0] + shard.rows, at[1] + shard.parts, at[2] + shard.keys]
        loaded = [_load(self.tables / f"{name}.npy") for name in ("samples", "parts", "keys")]
        self.samples, self.parts, self.keys = loaded
        if [len(table) for table in loaded] != at:
            raise ValueError(f"{self.tables} does not hold what {home / LISTING} says")
        self.by_name = {shard.name: i for i, shard in enumerate(self.shards)}

    def place(self, shard: Shard) -> str:
        """Return the path or URL of a shard."""
        if isinstance(self.folder, Path):
            return str(self.folder / shard.name)
        return beside(self.folder, shard.name)

    @property
    def bad(self) -> list[Bad]:
        """Return everything that the scan found damaged."""
        return [Bad(*row) for shard in self.shards for row in shard.bad]

    def summary(self) -> Iterator[str]:
        """Yield lines that say how much text and media of each kind there are."""
        chars = int(self.samples["chars"].sum(dtype=np.int64))
        yield f"text: {chars:,} characters"
        for number, kind in enumerate(KINDS[1:], 1):
            parts = self.parts[self.parts["kind"] == number]
            if not len(parts):
                continue
            line = f"{kind}: {len(parts):,} files, {parts['size'].sum() / 1e6:,.1f} MB"
            if kind != "audio":
                wide, high = (int(np.median(parts[side])) for side in ("width", "height"))
                line += f", median {wide}x{high} pixels"
            if kind != "image":
                line += f", {(parts['count'] / parts['rate']).sum() / 3600:,.2f} hours"
            yield line

    def rows(self, shard: Shard) -> Rows:
        """Copy the rows of one shard, counting from 0 within it again."""
        samples = self.samples[shard.first : shard.first + shard.rows].copy()
        samples["shard"] = 0
        samples["part"] -= shard.first_part
        samples["key"] -= shard.first_key
        parts = self.parts[shard.first_part : shard.first_part + shard.parts].copy()
        used, parts["name"] = np.unique(parts["name"], return_inverse=True)
        keys = self.keys[shard.first_key : shard.first_key + shard.keys]
        names = [self.names[i] for i in used]
        return Rows(samples, parts, keys, names, [Bad(*row) for row in shard.bad])

    def checksums(self, name: str) -> dict[tuple[str, str], int]:
        """Return the crc32c of every part of a shard by (key, part name); none if unknown."""
        if name not in self.by_name:
            return {}
        rows, found = self.rows(self.shards[self.by_name[name]]), {}
        for sample in rows.samples:
            at, first = int(sample["key"]), int(sample["part"])
            key = rows.keys[at : at + int(sample["key_size"])].tobytes()
            for part in rows.parts[first : first + int(sample["parts"])]:
                place = key.decode("utf-8", "surrogateescape"), rows.names[part["name"]]
                found[place] = int(part["crc"])
        return found

    def current(self, path: Path) -> bool:
        """Tell whether a shard is still what was scanned.

        Equal size and time are enough. With another time only (copies and downloads have one)
        the checksums of the first and the last sample decide; readers check those of all.
        """
        if path.name not in self.by_name:
            return False
        shard, now = self.shards[self.by_name[path.name]], path.stat()
        if now.st_size != shard.bytes:
            return False
        if now.st_mtime_ns == shard.mtime_ns:
            return True
        if not shard.parts:
            return False
        with path.open("rb") as file:
            ends = self.parts[shard.first_part : shard.first_part + shard.parts][[0, -1]]
            for part in ends:
                data = os.pread(file.fileno(), int(part["size"]), int(part["offset"]))
                if google_crc32c.value(data) != part["crc"]:
                    return False
        return True


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:  # an empty table cannot be mapped
        return np.load(path, allow_pickle=False)


def read_sidecar(folder: Path, home: Path | None = None) -> Sidecar | None:
    """Open the tables at `home` (beside the shards), or return None where there are none."""
    home = home or folder / HOME
    for attempt in range(3):
        try:
            listing = json.loads((home / LISTING).read_text(encoding="utf-8"))
            if listing.get("schema") != SCHEMA:
                return None
            return Sidecar(folder, home, listing)
        except FileNotFoundError:
            if not (home / LISTING).is_file():
                return None
            if attempt == 2:  # else another process has just replaced the tables
                return None
        except (ValueError, KeyError, TypeError, OSError):
            return None  # damaged, or not to be read: made again
    return None


def update(
    folder: Path,
    wanted: Iterable[Path],
    check: bool = False,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Sidecar:
    """Return tables in which the `wanted` shards of a folder are current; scan what is not.

    With `check`, every wanted shard is read again, whatever its size and time. Processes that
    want the same tables wait for the first one; a killed scan goes on where it was.
    """
    wanted = sorted(wanted)
    if not check:
        for home in _homes(folder):
            found = read_sidecar(folder, home)
            if found and all(map(found.current, wanted)):
                return found
    home = _homes(folder)[0 if os.access(folder, os.W_OK) else 1]
    with exclusive(home / "index"):
        old = read_sidecar(folder, home)
        keep = {}
        if old:
            there = {s.name: folder / s.name for s in old.shards if (folder / s.name).is_file()}
            asked = {path.name for path in wanted} if check else set()
            keep = {n: p for n, p in there.items() if n not in asked and old.current(p)}
        todo = [path for path in wanted if path.name not in keep]
        if old and not todo and len(keep) == len(old.shards):
            return old
        _scan_all(home, todo, jobs, progress)
        sources: dict[Path, Any] = dict.fromkeys(todo)
        sources |= {p: old.shards[old.by_name[n]] for n, p in keep.items()} if old else {}
        return _publish(folder, home, sources, old)


def _homes(folder: Path) -> list[Path]:
    """List where the tables of a folder may lie: beside the shards, or in the cache."""
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return [folder / HOME, cache_dir() / "index" / name]


def _scan_file(home: Path, path: Path) -> Path:
    now = path.stat()
    return home / "scan" / f"{path.name}.{SCHEMA}.{now.st_size}.{now.st_mtime_ns}.npz"


def _scan_one(home: Path, path: Path) -> int:
    """Scan a shard into a file of its own, so that a kill loses no other; return its bytes."""
    target = _scan_file(home, path)
    if not target.is_file():
        with replacing(target) as scratch:
            scan_rows(path).save(scratch)
    return path.stat().st_size


def _scan_all(home: Path, todo: list[Path], jobs: int, progress: Progress | None) -> None:
    (home / "scan").mkdir(parents=True, exist_ok=True)
    total, done = sum(path.stat().st_size for path in todo), 0

    def tell(size: int) -> None:
        nonlocal done
        done += size
        if progress:
            progress(done, total)

    if jobs <= 1 or len(todo) <= 1:
        for path in todo:
            tell(_scan_one(home, path))
        return
    # spawned, because a forked child of a process that runs threads may hang
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(_scan_one, home, path) for path in todo]):
            tell(future.result())


def _publish(
    folder: Path, home: Path, sources: dict[Path, Shard | None], old: Sidecar | None
) -> Sidecar:
    """Join the rows of all shards to one set of tables and put it in the place of the old one.

    Train shards come first, so that training, which wants just those, maps them as they lie.
    """
    paths = sorted(sources, key=lambda path: (not path.name.startswith("train-"), path.name))

    def rows_of(path: Path) -> Rows:
        kept = sources[path]
        return old.rows(kept) if old and kept else Rows.load(_scan_file(home, path))

    shards: list[Shard] = []
    for path in paths:
        rows, now = rows_of(path), path.stat()
        sizes = len(rows.samples), len(rows.parts), len(rows.keys)
        bad = [list(astuple(b)) for b in rows.bad]
        kept = sources[path]
        digest = kept.digest if kept else rows.digest()
        shards.append(Shard(path.name, now.st_size, now.st_mtime_ns, digest, *sizes, bad))
    tables = hashlib.sha256("".join(s.digest for s in shards).encode()).hexdigest()[:16]
    with replacing(home / tables) as building:
        building.mkdir()
        names = _write_tables(building, shards, map(rows_of, paths))
        if old:
            _carry_tokens(old, building, shards)
    listing = {
        "schema": SCHEMA,
        "tables": tables,
        "names": names,
        "shards": [astuple(shard)[:8] for shard in shards],
    }
    write_json(home / LISTING, listing)
    for path in home.iterdir():  # what is mapped by someone stays readable for him
        if path.is_dir() and path.name != tables:
            shutil.rmtree(path, ignore_errors=True)
    return Sidecar(folder, home, listing)


def _write_tables(building: Path, shards: list[Shard], all_rows: Iterable[Rows]) -> list[str]:
    """Write the rows of every shard behind one another; return the table of part names."""
    totals = [sum(getattr(s, kind) for s in shards) for kind in ("rows", "parts", "keys")]
    kinds = (("samples", SAMPLE), ("parts", PART), ("keys", np.uint8))
    tables = [
        open_memmap(building / f"{name}.npy", "w+", dtype, (total,))
        if total
        else np.zeros(0, dtype)
        for (name, dtype), total in zip(kinds, totals, strict=True)
    ]
    names: dict[str, int] = {}
    at = [0, 0, 0]
    for number, rows in enumerate(all_rows):
        rows.renumber(number, at[1], at[2], names)
        for i, piece in enumerate((rows.samples, rows.parts, rows.keys)):
            tables[i][at[i] : at[i] + len(piece)] = piece
            at[i] += len(piece)
    for (name, _), table in zip(kinds, tables, strict=True):
        write_table(building / f"{name}.npy", table)
    return list(names)


def write_table(path: Path, table: np.ndarray) -> None:
    """Write a table; a memory-mapped one lies at `path` already."""
    if isinstance(table, np.memmap):
        table.flush()
    else:
        with path.open("wb") as file:  # np.save would mend the name
            np.save(file, table)


def _carry_tokens(old: Sidecar, building: Path, shards: list[Shard]) -> None:
    """Keep the token counts of shards that did not change."""
    known = {shard.digest: shard for shard in old.shards}
    for path in old.tables.glob("tokens-*.npy"):
        had = _load(path)
        counts = np.full(sum(s.rows for s in shards), UNKNOWN, np.uint32)
        at = 0
        for shard in shards:
            if shard.digest in known:
                first = known[shard.digest].first
                counts[at : at + shard.rows] = had[first : first + shard.rows]
            at += shard.rows
        write_table(building / path.name, counts)
