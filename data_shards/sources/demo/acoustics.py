"""Rooms and noise around a voice: what makes clean synthetic speech sound recorded."""

import numpy as np

from ..base import RATE

REVERBERATION = (0.15, 0.7)  # seconds until the echo has fallen by 60 dB
DIRECT = (0.0, 12.0)  # dB of the direct sound over its echo
NOISE = (8.0, 30.0)  # dB of the speech over the noise
COLOUR = (0.0, 1.2)  # the noise's power falls by this power of the frequency: white to pink
LEVEL = 10 ** (-23 / 20)  # root mean square, of full scale
PEAK = 0.98


def recorded(wave: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Put speech (samples,) into a drawn room with drawn noise, at one level and never clipped.

    Returns the wave, longer by the room's echo, and what was done to it in words.
    """
    seconds, direct = rng.uniform(*REVERBERATION), rng.uniform(*DIRECT)
    ratio, colour = rng.uniform(*NOISE), rng.uniform(*COLOUR)
    wet = _echo(wave.astype(np.float64), seconds, direct, rng)
    noise = _noise(len(wet), colour, rng)
    wet += noise * _level(wet) / _level(noise) * 10 ** (-ratio / 20)
    wet *= LEVEL / _level(wet)
    wet *= min(1.0, PEAK / np.abs(wet).max())
    return wet.astype(np.float32), f"echo {seconds:.2f} s, noise {ratio:.0f} dB below"


def _echo(wave: np.ndarray, seconds: float, direct: float, rng: np.random.Generator) -> np.ndarray:
    """Convolve with an impulse and an exponentially decaying tail of noise."""
    count = int(seconds * RATE)
    tail = rng.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)  # -60 dB at its end
    tail[0] = 0
    response = tail * 10 ** (-direct / 20) / np.sqrt((tail**2).sum())
    response[0] = 1
    length = len(wave) + count - 1
    spectrum = np.fft.rfft(wave, length) * np.fft.rfft(response, length)
    return np.fft.irfft(spectrum, length)


def _noise(count: int, colour: float, rng: np.random.Generator) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(count))
    return np.fft.irfft(spectrum * np.arange(1, len(spectrum) + 1) ** (-colour / 2), count)


def _level(wave: np.ndarray) -> float:
    return float(np.sqrt((wave**2).mean()))
