"""A build on the machines of a Ray cluster: its workers make the parts, this process merges them.

The cluster's machines see the input and the output under the same paths, as array jobs do. Chunks
are tasks: what a lost worker or machine was making is made by another, and a chunk that is there
is there whole (see `parts`), so neither losses nor the number of workers change a byte.
"""

import logging
import os
import socket
from pathlib import Path
from typing import Any

from rich.console import Console

from .build import list_rows, outcomes, progress
from .parts import merge, prepare, write_chunk
from .shards.manifest import read_manifest
from .shards.write import SHARD_SAMPLES
from .sources import Build, SourceError, SourceOptions
from .sources.formats.convert import Row

SECONDS = 10.0  # in which a cluster answers
RETRIES = 8  # of a chunk whose worker was lost
AHEAD = 2  # chunks given out per worker
LOCAL = "local"  # an address: workers of this machine


class ClusterError(RuntimeError):
    """There is no Ray, no such cluster, or its workers die again and again."""


_rows: dict[str, list[Row]] = {}  # of the source that this worker makes parts of


def build_on_ray(
    source: SourceOptions, out: Path, address: str, seed: int = 0, heldout: float = 0.15,
    force: bool = False, console: Console | None = None, jobs: int = 1,
    shard_samples: int = SHARD_SAMPLES,
) -> dict[str, Any]:  # fmt: skip
    """Build one set of shards as `build` does, with the workers of a Ray cluster.

    Args:
        address: of the cluster, such as "auto" or "HOST:6379"; "local": `jobs` workers here.

    Raises:
        OtherBuild, SourceUnavailable, SourceError: as `build`.
        ClusterError: there is no Ray, no such cluster, or workers die of a chunk again and again.
    """
    console = console or Console(stderr=True)
    ray = _ray()
    task = prepare(source, out, seed, heldout, shard_samples, force, console)
    if task is None:
        manifest = read_manifest(out)
        assert manifest
        return manifest
    todo = task.todo()
    if todo:
        started = _join(ray, address, jobs)
        try:
            key = f"{task.parts.folder} {task.head}"
            calls = [(key, source, seed, heldout, task.head.rows, *task.head.span(chunk),
                      task.parts.chunk(chunk).absolute()) for chunk in todo]  # fmt: skip
            _run(ray, calls, console)
        finally:
            if started:
                ray.shutdown()
    return merge([out], out, force, console)


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray  # pyright: ignore[reportMissingImports]  # the extra `cluster`, absent from dev
    except ImportError as error:
        raise ClusterError(
            "--ray needs Ray: install the extra `cluster` (uv pip install 'omni-stages[cluster]'), "
            "or run `--part 1/n` to `--part n/n` as array jobs"
        ) from error
    return ray


def _join(ray: Any, address: str, jobs: int) -> bool:
    """Connect to a cluster, and tell whether that is to be ended again."""
    if ray.is_initialized():
        return False
    local = {"num_cpus": jobs, "include_dashboard": False} if address == LOCAL else {}
    try:
        host, colon, port = address.rpartition(":")
        if colon and port.isdigit():  # Ray itself would try for many minutes
            socket.create_connection((host.strip("[]"), int(port)), SECONDS).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except (OSError, OverflowError, ValueError) as error:
        raise ClusterError(f"--ray {address}: no cluster answers: {error}") from error
    return True


def _run(ray: Any, calls: list[tuple[Any, ...]], console: Console) -> None:
    """Have every chunk made, a few per worker at a time."""
    make = ray.remote(make_chunk).options(max_retries=RETRIES)
    workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
    left, waiting = calls[::-1], []
    with progress(console) as bar:
        shown = bar.add_task(f"{workers} workers", total=len(calls))
        while left or waiting:
            while left and len(waiting) < AHEAD * workers:
                waiting.append(make.remote(*left.pop()))
            done, waiting = ray.wait(waiting)
            try:
                ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError as error:
                raise ClusterError(f"workers were lost again and again: {error}") from error
            bar.update(shown, advance=len(done))


def make_chunk(
    key: str, source: SourceOptions, seed: int, heldout: float, total: int, first: int, end: int,
    path: Path,
) -> None:  # fmt: skip
    """Be a worker: make the rows from `first` to before `end`; the rows are listed once.

    Raises:
        SourceError: the source has other rows here than where it was listed first.
    """
    if key not in _rows:
        _rows.clear()
        note = Build(seed=seed, heldout=heldout, say=lambda _: None)
        _rows[key] = list(list_rows(source, note))
    rows = _rows[key]
    if len(rows) != total:
        raise SourceError(
            f"{source.name} has {len(rows):,} rows on this machine and {total:,} on the first: "
            "all of them must see the same files"
        )
    write_chunk(path, outcomes(enumerate(rows[first:end], first), jobs=1))
