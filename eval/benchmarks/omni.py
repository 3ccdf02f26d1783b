"""Benchmarks that must be seen and heard at once."""

from ..lmms.benchmark import Benchmark
from .share import column, letter_of, number_of, share

OPTION = letter_of("options")

OMNI = (
    Benchmark(
        "omnibench", "OmniBench", "omni_bench", "omni_bench", "train", 1142,
        share(
            "accuracy", OPTION, points=lambda found: found["overall"], scale=1.0,
            category=column("task type"), options=number_of("options"),
        ),
        OPTION, 128, "official", aliases=("Omni_Bench_fix", "Omni_Bench"),
    ),
)  # fmt: skip
