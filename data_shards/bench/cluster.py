"""Build a set in parts, and on a Ray cluster that loses a worker: the bytes are the same."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ..build import build
from ..cluster import LOCAL, build_on_ray
from ..parts import build_part, merge
from ..shards.manifest import MANIFEST
from ..shards.sample import Sample
from ..sources.base import Build
from ..sources.formats.convert import Input
from ..sources.formats.llava import Llava
from .data import picture
from .result import Result

PARTS, WORKERS = 3, 2


@dataclass
class Fatal(Llava):
    """LLaVA's rows, of which the middle one kills the process that makes it: once, and if asked.

    It is asked by a file "kill" beside the folder of the rows, which belongs to no input.
    """

    def inputs(self, build: Build) -> Iterator[Input]:
        rows, mark = [*super().inputs(build)], _mark(self)
        middle = rows[len(rows) // 2]
        rows[len(rows) // 2] = replace(middle, make=partial(_die_once, mark, middle.make))
        return iter(rows)


def _mark(source: Llava) -> Path:
    assert source.json
    return source.json.absolute().parent.parent / "kill"


def _die_once(mark: Path, make: Callable[[], Sample]) -> Sample:
    try:
        mark.unlink()
    except FileNotFoundError:
        return make()
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("it lives")


def run(folder: Path, small: bool = False) -> Result:
    """Compare a build on one machine, in three parts, and by two workers of which one is killed."""
    source = _rows(folder / "rows", 60 if small else 600)
    options: dict[str, Any] = {"heldout": 0.2, "shard_samples": 10 if small else 50}
    options["console"] = Console(stderr=True, quiet=True)
    rows: list[dict[str, Any]] = []

    def measure(way: str, make: Callable[[Path], object]) -> None:
        start, out = time.perf_counter(), folder / way / "set"
        make(out)
        rows.append({"way": way, "seconds": round(time.perf_counter() - start, 2),
                     "shards": len([*out.glob("*.tar")]), "same": _same(folder, out)})  # fmt: skip

    def in_parts(out: Path) -> None:
        for part in range(PARTS, 0, -1):  # whichever comes first
            build_part(source, out, part, PARTS, **options)
        merge([out], out, console=options["console"])

    measure("alone", lambda out: build(source, out, jobs=WORKERS, **options))
    measure("parts", in_parts)
    figures: dict[str, Any] = {"killed": 0, "parts": PARTS}
    if find_spec("ray"):
        mark = _mark(source)
        mark.touch()
        measure("ray", lambda out: build_on_ray(source, out, LOCAL, jobs=WORKERS, **options))
        figures |= {"killed": int(not mark.exists()), "workers": WORKERS}
    else:
        figures["ray"] = "not installed: uv pip install 'omni-stages[cluster]'"
    figures = {"same": all(row["same"] for row in rows)} | figures
    return Result(figures["same"] and figures["killed"] == 1, figures, rows)


def _rows(folder: Path, count: int) -> Fatal:
    """Write rows about half as many pictures; every ninth row names one that is not there."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for n in range(count // 2):
        (folder / f"{n}.jpg").write_bytes(picture(rng))
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A thing."}]
    lines = [
        {"id": n, "image": f"{n % (count // 2)}.jpg" if n % 9 else "none.jpg",
         "conversations": turns}
        for n in range(count)
    ]  # fmt: skip
    (folder / "rows.json").write_text(json.dumps(lines), encoding="utf-8")
    return Fatal(json=folder / "rows.json")


def _same(folder: Path, out: Path) -> bool:
    """Tell whether the shards and the manifest are those of a build on one machine."""
    return contents(out) == contents(folder / "alone" / "set")


def contents(out: Path) -> dict[str, bytes]:
    """Return the bytes of the shards and of the manifest of a set."""
    return {path.name: path.read_bytes() for path in (*out.glob("*.tar"), out / MANIFEST)}
