"""What speech is made of here: log-mel frames at 100 Hz, from waves and back."""

from functools import lru_cache

import torch
import torchaudio
from torch.nn import functional as F

RATE, HOP, N_FFT, BINS = 16_000, 160, 800, 80
FRAMES_PER_CODE = 8  # mel frames of a code frame: 100 Hz and 12.5 Hz
SAMPLES_PER_CODE = FRAMES_PER_CODE * HOP
FLOOR = 1e-5
CENTRE, SPREAD = -2.0, 1.5  # of log10 of speech: scaled to about mean 0 and deviation 1


@lru_cache
def _filters(device: str) -> torch.Tensor:
    filters = torchaudio.functional.melscale_fbanks(
        N_FFT // 2 + 1, 0.0, RATE / 2, BINS, RATE, norm="slaney", mel_scale="slaney"
    )
    return filters.to(device)  # (401, 80)


@lru_cache
def window(device: str) -> torch.Tensor:
    """Return the Hann window of a frame: (N_FFT,)."""
    return torch.hann_window(N_FFT, device=device)


def log_mel(wave: torch.Tensor) -> torch.Tensor:
    """Analyse waves of whole hops: (..., samples) -> (..., samples / HOP, BINS), in float32.

    A frame does not depend on what is more than half a window away, however loud.
    """
    flat = wave.float().reshape(-1, wave.shape[-1])
    padded = F.pad(flat, (N_FFT // 2, N_FFT // 2))
    spectrum = torch.stft(
        padded, N_FFT, HOP, window=window(str(wave.device)), center=False, return_complex=True
    )[:, :, : wave.shape[-1] // HOP]
    mel = spectrum.abs().transpose(1, 2) @ _filters(str(wave.device))
    scaled = (mel.clamp(min=FLOOR).log10() - CENTRE) / SPREAD
    return scaled.reshape(*wave.shape[:-1], -1, BINS)


@lru_cache
def _inverse(device: str) -> torch.Tensor:
    return torch.linalg.pinv(_filters("cpu")).to(device)


def magnitudes(mel: torch.Tensor) -> torch.Tensor:
    """Return the spectra that log-mel frames are likeliest of: (..., BINS) -> (..., N_FFT / 2 + 1).

    Of all that have these mel bins the smallest in squares, and none below 0.
    """
    bins = 10 ** (mel.float() * SPREAD + CENTRE)
    return (bins @ _inverse(str(mel.device))).clamp(min=0)


def griffin_lim(mel: torch.Tensor, rounds: int = 32) -> torch.Tensor:
    """Make a wave of log-mel frames without any weights: (T, BINS) -> (T * HOP,).

    Griffin and Lim 1984, with the momentum of Perraudin et al. 2013; it starts from phases of
    zero, so the same frames are the same wave.
    """
    if not len(mel):
        return mel.new_zeros(0)
    spectrum = F.pad(magnitudes(mel).T, (0, 1), mode="replicate")  # the frame at the very end
    return torchaudio.functional.griffinlim(
        spectrum[None], window(str(mel.device)), N_FFT, HOP, N_FFT, 1.0, rounds, 0.99,
        len(mel) * HOP, False,
    )[0]  # fmt: skip
