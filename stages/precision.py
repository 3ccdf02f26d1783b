"""Dtype is probed, not assumed: bf16 on a CPU without its instructions is many times slower."""

import time

import torch

PRECISIONS = {"no": "fp32", "bf16": "bf16"}
"""accelerate's names -> ours"""


def choose_precision(wanted: str) -> str:
    """Return accelerate's name ("no" or "bf16") for "fp32", "bf16" or "auto" (measured)."""
    if wanted == "fp32":
        return "no"
    if wanted == "bf16":
        return "bf16"
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if _seconds(torch.bfloat16) < 0.7 * _seconds(torch.float32) else "no"


def _seconds(dtype: torch.dtype, size: int = 256) -> float:
    """Return the best of three timings of a small CPU matmul."""
    a = torch.ones(size, size, dtype=dtype)
    times = []
    for _ in range(4):  # the first run warms up
        began = time.perf_counter()
        _ = a @ a
        times.append(time.perf_counter() - began)
    return min(times[1:])
