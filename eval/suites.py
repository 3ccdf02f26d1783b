"""Which rows a suite has, and where it takes their docs from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import own
from .benchmarks.image import IMAGE10
from .heldout import HeldOut, load_heldout
from .minisuite import build_minisuite
from .official import Benchmark, Official, Source


@dataclass(frozen=True)
class Suite:
    """Rows, and `open`: what `--data` names -> the source of their docs."""

    rows: tuple[Official | own.Own, ...]
    open: Callable[[Path], Source]
    help: str


def _mini(held: HeldOut, benchmark: Benchmark, limit: int | None, scratch: Path) -> list[Path]:
    return [build_minisuite(held, benchmark.name, scratch / "parquet", limit)]


SUITES: dict[str, Suite] = {
    "mini": Suite(
        (*(Official(f"mini-{b.name}", b, _mini) for b in IMAGE10), *own.ROWS),
        load_heldout,
        "small rows of our own for the image benchmarks, and held-out speech",
    ),
}
