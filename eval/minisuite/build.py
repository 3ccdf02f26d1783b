"""Build every mini benchmark that the held-out data allows."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..answering.store import code_digest
from ..rows.heldout import HeldOut
from . import charts, exam, hallusion, maths, ocr, recognition, relations, signs
from .schema import write_parquet

SEED = 7_310  # of the evaluation alone; no training source uses it

# benchmark -> builder of its rows, and their number of units (questions, sets)
BUILDERS: dict[str, tuple[Callable[[HeldOut, random.Random, int], list[dict[str, Any]]], int]] = {
    "mmbench_en": (recognition.mmbench, 40),
    "mmbench_cn": (relations.mmbench_cn, 40),
    "seedbench": (relations.seedbench, 112),
    "mmmu": (exam.mmmu, 112),
    "hallusionbench": (hallusion.hallusionbench, 40),
    "realworldqa": (recognition.realworldqa, 104),
    "mathvista": (maths.mathvista, 112),
    "textvqa": (signs.textvqa, 102),
    "chartqa": (charts.chartqa, 120),
    "ocrbench": (ocr.ocrbench, 100),
}


def build_minisuite(held: HeldOut, benchmark: str, out: Path, limit: int | None = None) -> Path:
    """Write a parquet file into `out`, or reuse it: same data, same builders, same rows.

    `limit` bounds the units: questions with all their rotated copies, or whole sets.

    Raises:
        LookupError: the held-out pictures do not suffice; says what is missing.
    """
    builder, units = BUILDERS[benchmark]
    units = min(units, limit or units)
    digest = f"{code_digest(Path(__file__).parent)[:8]}{held.digest[:8]}"
    path = out / f"{benchmark}-{units}-{digest}.parquet"
    if not path.exists():
        rows = builder(held, random.Random(f"{SEED}:{benchmark}"), units)
        write_parquet(benchmark, rows, path)
    return path
