"""Which pictures of a benchmark a model was trained on."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from data_shards.read.entry import read_shard
from data_shards.shards.shard import find_shards
from omni.processing.messages import media_refs

from ..grid import Grid
from .fingerprint import DISTANCE, LIKENESS, Fingerprint, Gallery, fingerprint

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
AT_ONCE = 256  # pictures decoded by the threads before their samples are let go
Named = tuple[str, bytes]  # where a picture is, and its file


class Hit(NamedTuple):
    """A picture of a benchmark that lies in a training shard, saved again perhaps."""

    picture: str
    """FILE:ROW of the benchmark"""
    sample: str
    """shard:key"""
    bits: int
    likeness: float


@dataclass
class Contamination:
    """Hits, and how much was compared."""

    hits: list[Hit] = field(default_factory=list)
    pictures: int = 0
    """different ones of the benchmark"""
    trained: int = 0
    """pictures in the shards"""
    flat: int = 0
    """of one colour, on either side: not comparable"""
    unreadable: list[str] = field(default_factory=list)

    @property
    def found(self) -> int:
        """Different pictures of the benchmark among the hits."""
        return len({hit.picture for hit in self.hits})


def contamination(
    data: Iterable[Path], shards: Iterable[Path], progress: Callable[[int], None] = lambda n: None
) -> Contamination:
    """Look for every picture of `data` in training shards.

    Args:
        data: parquet files as datasets writes them, picture files, or folders of these.
        shards: tar files, folders of train-*.tar, or folders of such folders.
        progress: receives numbers of training pictures.

    Raises:
        FileNotFoundError: a path holds nothing of the kind; ValueError: no picture to look for.
    """
    found = Contamination()
    files = _shard_files(shards)
    names: list[str] = []
    prints: list[Fingerprint] = []
    for name, one in _prints(_distinct(benchmark_pictures(data)), found):
        names.append(name)
        prints.append(one)
    found.pictures = len(names)
    if not names:
        raise ValueError("no picture to look for: these files hold none, or none that is readable")
    gallery = Gallery(prints)
    for name, one in _prints(training_pictures(files), found):
        found.trained += 1
        progress(1)
        found.hits += [Hit(names[n], name, bits, like) for n, bits, like in gallery.near(one)]
    return found


def benchmark_pictures(paths: Iterable[Path]) -> Iterator[Named]:
    """Every picture in the image columns of parquet files, and every picture file.

    Raises:
        FileNotFoundError: a path holds neither.
    """
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        files = [file for file in inside if file.suffix.lower() in (".parquet", *PICTURES)]
        if not files or not files[0].is_file():
            raise FileNotFoundError(
                f"{path}: no parquet file and no picture; `omni-eval prepare` makes parquet files "
                "of other formats"
            )
        for file in files:
            if file.suffix == ".parquet":
                yield from _in_parquet(file)
            else:
                yield str(file), file.read_bytes()


def _in_parquet(file: Path) -> Iterator[Named]:
    """A column of pictures is a struct with `bytes`, or a list of such."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    def holds_pictures(kind: pyarrow.DataType) -> bool:
        if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
            return holds_pictures(kind.value_type)
        return pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0

    with ParquetFile(file) as table:
        columns = [column.name for column in table.schema_arrow if holds_pictures(column.type)]
        rows = (
            row for batch in table.iter_batches(64, columns=columns) for row in batch.to_pylist()
        )
        for number, row in enumerate(rows):
            for value in row.values():
                for picture in value if isinstance(value, list) else [value]:
                    if picture and picture["bytes"]:
                        yield f"{file}:{number}", picture["bytes"]


def training_pictures(files: Iterable[Path]) -> Iterator[Named]:
    """Every picture of every intact sample."""
    for file in files:
        for sample in read_shard(file):
            for kind, name in media_refs(sample.messages):
                if kind == "image":
                    yield f"{file}:{sample.key}", sample.parts[name]


def _shard_files(paths: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        below = sorted({shard.parent for shard in path.glob("[!.]*/train-*.tar")})
        found += find_shards([path]) if any(path.glob("train-*.tar")) or not below else []
        found += find_shards(below) if below else []
    return found


def _distinct(pictures: Iterable[Named]) -> Iterator[Named]:
    """Each file once, under the first name: benchmarks ask several questions about one."""
    seen = set()
    for name, data in pictures:
        digest = hashlib.sha256(data).digest()
        if digest not in seen:
            seen.add(digest)
            yield name, data


def _prints(pictures: Iterable[Named], found: Contamination) -> Iterator[tuple[str, Fingerprint]]:
    """Fingerprints in order, made by threads; what has none is counted in `found`."""
    from omni.media.decode import MediaError, load_image

    def made(item: Named) -> Fingerprint | MediaError | None:
        try:
            return fingerprint(load_image(item[1]))
        except MediaError as error:
            return error

    remaining = iter(pictures)
    with ThreadPoolExecutor() as pool:
        while some := [*islice(remaining, AT_ONCE)]:
            for (name, _), one in zip(some, pool.map(made, some), strict=True):
                if isinstance(one, Fingerprint):
                    yield name, one
                elif one is None:
                    found.flat += 1
                else:
                    found.unreadable.append(f"{name}: {one}")


def grid(found: Contamination) -> Grid:
    """Each hit, and what was compared."""
    rows = [[h.picture, h.sample, str(h.bits), f"{h.likeness:.3f}"] for h in found.hits]
    notes = [
        f"{found.found} of {found.pictures} pictures of the benchmark are among {found.trained:,} "
        "training pictures.",
        f"A copy differs in at most {DISTANCE} of 63 bits of the perceptual hash and correlates at "
        f"{LIKENESS} or more at 8 x 8 pixels: saved again, resized or brightened, but not cropped, "
        "mirrored or redrawn. Figures that were made to differ in a detail are near copies, too.",
    ]
    if found.flat:
        notes.append(f"{found.flat} pictures of one colour were not compared.")
    if found.unreadable:
        notes.append(
            f"{len(found.unreadable)} pictures cannot be read; the first: {found.unreadable[0]}."
        )
    return Grid(["benchmark picture", "training sample", "bits", "likeness"], rows, notes)
