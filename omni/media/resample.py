"""Sound at another rate, and how long it is then."""

import math

import numpy as np


def resample(wave: np.ndarray, old: int, new: int) -> np.ndarray:
    """Bring a wave (n,) float32 from `old` Hz to `new` Hz."""
    if old == new:
        return wave
    import torch  # here, because it takes seconds to import and images do without it
    from torchaudio.functional import resample as filtered

    return filtered(torch.from_numpy(wave), _filter_rate(old, new), new).numpy()


def resampled(counts: np.ndarray, rates: np.ndarray, rate: int) -> np.ndarray:
    """Tell how many samples `resample` makes at `rate` of `counts` samples at `rates`, (n,)."""
    out = counts.astype(np.int64)
    for source in np.unique(rates):
        old, mine = _filter_rate(int(source), rate), rates == source
        if old != rate:
            out[mine] = -(-out[mine] * rate // old)
    return out


def _filter_rate(old: int, new: int) -> int:
    if old != new and math.gcd(old, new) < 25:  # 44,101 Hz would need a filter of gigabytes
        return round(old / 100) * 100  # a pitch error nobody hears
    return old
