"""Dtype is probed, not assumed: bf16 on a CPU without its instructions is many times slower."""

import time

import torch

PRECISIONS = {"no": "fp32", "bf16": "bf16"}
"""accelerate's names -> ours"""


def check_precision(chosen: str, device: torch.device) -> None:
    """Refuse bf16 on a GPU that would only imitate it.

    Args:
        chosen: accelerate's name.
        device: what is trained on.

    Raises:
        ValueError: says what to choose.
    """
    if chosen != "bf16" or device.type != "cuda":
        return
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError(
            f"precision: {torch.cuda.get_device_name(device)} has no bf16; choose fp32 or auto"
        )


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
