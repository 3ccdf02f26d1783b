"""What a device could do at best, in floating-point operations a second."""

import re
import time

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
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
SIDE, SECONDS = 1024, 0.2
SHARE, CHUNK = 0.002, 0.02  # of the run's time goes into further measurements, of so many seconds


class Peak:
    """The best rate of one device, in operations a second.

    Looked up by the device's name, otherwise measured. A busy moment measures too little, so the
    best of many moments counts, and what the training reaches is a measurement as well.

    Args:
        device: of this process.
        precision: accelerate's: "no", "bf16" or "fp16".
    """

    def __init__(self, device: torch.device, precision: str):
        self._device, self._dtype = device, TYPES.get(precision, torch.float32)
        self.known = _look_up(device, precision)
        self.rate = self.known or measured_flops(device, self._dtype, SECONDS)
        self._began, self._spent = time.monotonic(), 0.0

    def watch(self) -> None:
        """Measure for another moment, if enough time has gone by since the last."""
        if self.known or self._spent > SHARE * (time.monotonic() - self._began):
            return
        start = time.monotonic()
        self.reached(measured_flops(self._device, self._dtype, CHUNK))
        self._spent += time.monotonic() - start

    def reached(self, rate: float) -> None:
        """Note a rate that the device has reached, and so can."""
        self.rate = max(self.rate, rate)


def _look_up(device: torch.device, precision: str) -> float | None:
    if device.type != "cuda":
        return None
    words = set(re.split(r"[\s-]+", torch.cuda.get_device_name(device)))
    kind = 0 if precision in TYPES else 1 if torch.backends.cuda.matmul.allow_tf32 else 2
    for name, rates in KNOWN.items():
        if words.issuperset(name.split()) and "Laptop" not in words:
            return 1e12 * rates[kind]
    return None


def measured_flops(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """Multiply matrices for so long and return the best rate."""
    left = torch.ones(SIDE, SIDE, device=device, dtype=dtype)
    best, began = float("inf"), time.monotonic()
    while time.monotonic() - began < seconds or best == float("inf"):
        start = time.perf_counter()
        (left @ left)[0, 0].item()  # waits for a GPU
        best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best
