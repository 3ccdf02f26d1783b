"""What a device could do at best, in floating-point operations a second."""

import re
import time
from functools import lru_cache

import torch

# dense tensor-core rates in 1e12 a second by the vendors' data sheets: bf16 and fp16, tf32, fp32.
# The first name all of whose words are in the device's name holds.
KNOWN = {
    "B200": (2250.0, 1125.0, 75.0),
    "H200 NVL": (835.0, 417.5, 60.0),
    "H200": (989.4, 494.7, 66.9),
    "H100 NVL": (835.0, 417.5, 60.0),
    "H100 PCIe": (756.0, 378.0, 51.0),
    "H100": (989.4, 494.7, 66.9),
    "A100": (312.0, 156.0, 19.5),
    "L40S": (362.0, 183.0, 91.6),
    "L4": (121.0, 60.0, 30.3),
    "MI300X": (1307.4, 653.7, 163.4),
    "RTX 4090": (165.2, 82.6, 82.6),
    "RTX 3090": (71.0, 35.6, 35.6),
}
SIDE, SECONDS = 1024, 0.2


def peak_flops(device: torch.device, precision: str) -> float:
    """Return the peak of a device.

    Args:
        device: looked up by its name, otherwise measured.
        precision: accelerate's: "no", "bf16" or "fp16".
    """
    half = precision in ("bf16", "fp16")
    if device.type == "cuda":
        words = set(re.split(r"[\s-]+", torch.cuda.get_device_name(device)))
        kind = 0 if half else 1 if torch.backends.cuda.matmul.allow_tf32 else 2
        for name, rates in KNOWN.items():
            if words.issuperset(name.split()) and "Laptop" not in words:
                return 1e12 * rates[kind]
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    return measured_flops(device, dtype)


@lru_cache
def measured_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Multiply matrices for a moment and return the best rate; remembered by the process."""
    left = torch.ones(SIDE, SIDE, device=device, dtype=dtype)
    best, began = float("inf"), time.monotonic()
    while time.monotonic() - began < SECONDS or best == float("inf"):
        start = time.perf_counter()
        (left @ left)[0, 0].item()  # waits for a GPU
        best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best
