"""Whose voice a clip is in, among voices of which there are recordings."""

from collections.abc import Mapping, Sequence

import torch
import torchaudio

from omni.heads.mel import HOP, RATE, log_mel

LOUD = 1.5  # log-mel units below the loudest frame; what is quieter is no voice
PITCHES = (60, 400)  # Hz, of voices
SMOOTH = 5  # frames over which a pitch is the median
SHORTEST = RATE // 4  # samples in which a pitch can be found

Profile = tuple[float, ...]
"""how a clip sounds on average: its spectrum, without its loudness, and its pitch"""


def profile(wave: torch.Tensor) -> Profile:
    """Describe the voice of a clip (samples,) at 16 kHz; () where there is nothing to hear.

    The long-term average spectrum of its loud frames, in log-mel bins less their mean, and the
    octave of its median pitch.
    """
    if len(wave) < SHORTEST or not wave.any():
        return ()
    mel = log_mel(wave[: len(wave) // HOP * HOP].float())  # (T, 80)
    level = mel.mean(1)
    loud = level > level.max() - LOUD
    spectrum = mel[loud].mean(0)
    found = torchaudio.functional.detect_pitch_frequency(
        wave[None].float(), RATE, HOP / RATE, SMOOTH, *PITCHES
    )[0]
    voiced = loud[: len(found)]
    pitch = found[: len(voiced)][voiced].median() if voiced.any() else found.median()
    return (*(spectrum - spectrum.mean()).tolist(), float(pitch.clamp(min=1).log2()))


class Timbres:
    """Tells voices apart by the recordings there are of each: the nearest mean, feature by feature.

    A feature counts the more, the less it differs within a voice: a discriminant with a diagonal
    covariance (Bickel and Levina 2004).

    Args:
        recorded: voice -> profiles of its recordings.
    """

    def __init__(self, recorded: Mapping[str, Sequence[Profile]]):
        self.names = sorted(recorded)
        clips = [torch.tensor([p for p in recorded[name] if p]) for name in self.names]
        self.means = torch.stack([one.mean(0) for one in clips])  # (V, 81)
        within = torch.cat([one - one.mean(0) for one in clips])
        self.deviation = within.square().mean(0).sqrt().clamp(min=1e-3)

    def nearest(self, found: Profile) -> str:
        """Return the voice that a clip is likest; "" of one without any."""
        if not found:
            return ""
        off = ((self.means - torch.tensor(found)) / self.deviation).square().sum(1)
        return self.names[int(off.argmin())]
