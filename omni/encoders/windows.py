"""Long audio is encoded in windows; the last one is as long as what is left."""

import numpy as np
import torch
from torch.nn import functional as F

from ..media.resample import resampled


def windows_of(facts: np.ndarray, rate: int, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Tell the windows of clips from their facts, see `omni.encoders`.

    Args:
        facts: (n,)
        rate: of the encoder, in Hz.
        window: samples at that rate in a whole one.

    Returns:
        The clip of each window (W,), and its samples (W,).
    """
    lengths = resampled(facts["count"], facts["rate"], rate)
    windows = -(-lengths // window)
    clip = np.repeat(np.arange(len(facts)), windows)
    nth = np.arange(len(clip)) - np.repeat(np.cumsum(windows) - windows, windows)
    return clip, np.minimum(lengths[clip] - nth * window, window)


def equally_long(windows: list[torch.Tensor]) -> list[torch.Tensor]:
    """Pad windows (..., samples or frames) with zeros at their ends to the longest."""
    longest = max(window.shape[-1] for window in windows)
    return [F.pad(window, (0, longest - window.shape[-1])) for window in windows]
