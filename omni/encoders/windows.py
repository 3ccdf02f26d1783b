"""Long audio is encoded in windows; the last one is as long as what is left."""

import numpy as np

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
