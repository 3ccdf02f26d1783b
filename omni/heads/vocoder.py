"""Log-mel frames -> a wave, by a small net that corrects spectra (Siuzdak, arXiv 2306.00814)."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..entry import check_whole
from .causal import CausalConv, State
from .mel import BINS, HOP, N_FFT, log_mel, magnitudes, window

LOUDEST = 100.0  # of a magnitude
BEFORE = N_FFT // 2  # samples that the first frame begins before the wave does
SCALES = (256, 512, 1024)  # samples of the windows whose spectra are compared


class Vocoder(nn.Module):
    """ConvNeXt layers at 100 Hz, a head of magnitudes and phases, and overlapping spectra.

    What the net says is added to what the frames themselves tell: their magnitudes, with phases
    that make a pulse in the middle of each. So it speaks before it has learnt, on a monotone.

    Causal but for the half window that overlaps: a wave is made 25 ms behind its frames.
    """

    options = ("hidden", "layers")

    def __init__(self, hidden: int = 256, layers: int = 6):
        super().__init__()
        self.into = CausalConv(BINS, hidden, 7)
        self.norm = nn.LayerNorm(hidden)
        self.layers = nn.ModuleList(_ConvNext(hidden) for _ in range(layers))
        self.last = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, N_FFT + 2)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @staticmethod
    def check(options: dict[str, Any]) -> None:
        """Refuse options that cannot be; raises EntryError."""
        for key, value in options.items():
            check_whole(key, value)

    def forward(self, mel: torch.Tensor, state: State | None = None) -> torch.Tensor:
        """Make the wave of the next frames: (B, T, BINS) -> (B, samples).

        Without a state these are T * HOP samples. With one, what the frames to come overlap with
        is held back; after the last of them, `rest` has it.
        """
        louder, phase = self.net(mel, state).float().chunk(2, 2)
        magnitude = magnitudes(mel) * louder.exp()
        spectrum = torch.polar(magnitude.clamp(max=LOUDEST), phase)
        pulses = torch.fft.irfft(spectrum, N_FFT, dim=2).roll(BEFORE, 2)  # into the middle
        frames = pulses * window(str(mel.device))
        return self._overlap(frames, state)

    def net(self, mel: torch.Tensor, state: State | None = None) -> torch.Tensor:
        """Say how much louder each frequency is, and its phase: (B, T, BINS) -> (B, T, N_FFT + 2).

        The loudness is a logarithm.
        """
        x = self.norm(self.into(mel.transpose(1, 2), state).transpose(1, 2))
        for layer in self.layers:
            x = layer(x, state)
        return self.out(self.last(x))

    def rest(self, state: State) -> torch.Tensor:
        """Return what a stream still holds back, once its frames are at an end: (B, samples)."""
        kept, skip = state.pop(self)
        return _divided(kept[:, :, skip:BEFORE])

    def _overlap(self, frames: torch.Tensor, state: State | None) -> torch.Tensor:
        """Add overlapping frames (B, T, N_FFT) up, divided by what their windows add up to."""
        weights = window(str(frames.device)).square().expand_as(frames)
        both = torch.stack([_added(frames), _added(weights)])  # (2, B, samples)
        kept, skip = (None, BEFORE) if state is None else state.get(self, (None, BEFORE))
        if kept is not None:
            both[:, :, : kept.shape[2]] += kept
        whole = frames.shape[1] * HOP
        if state is None:  # the last frame's second half is no part of the wave
            return _divided(both[:, :, skip : whole + BEFORE])
        state[self] = both[:, :, whole:], max(0, skip - whole)
        return _divided(both[:, :, skip:whole])


class _ConvNext(nn.Module):
    """(B, T, D)."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = CausalConv(width, width, 7, groups=width)
        self.norm = nn.LayerNorm(width)
        self.feed = nn.Sequential(
            nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width)
        )

    def forward(self, x: torch.Tensor, state: State | None) -> torch.Tensor:
        return x + self.feed(self.norm(self.conv(x.transpose(1, 2), state).transpose(1, 2)))


def _divided(both: torch.Tensor) -> torch.Tensor:
    return both[0] / both[1].clamp(min=1e-8)


def _added(frames: torch.Tensor) -> torch.Tensor:
    """(B, T, N_FFT) -> (B, (T - 1) * HOP + N_FFT), each frame HOP after the one before it."""
    samples = (frames.shape[1] - 1) * HOP + N_FFT
    return F.fold(frames.transpose(1, 2), (1, samples), (1, N_FFT), stride=(1, HOP))[:, 0, 0]


def wave_error(found: torch.Tensor, wave: torch.Tensor) -> torch.Tensor:
    """Return how far waves (B, samples) are from others, in spectra and log-mel: (B, frames).

    Spectra of several windows, linear and logarithmic, as in Parallel WaveGAN (arXiv 1910.11480),
    and the log-mel frames themselves; a mean for each mel frame of HOP samples.
    """
    error = (log_mel(found) - log_mel(wave)).abs().mean(2)
    for size in SCALES:
        one, other = (_magnitudes(w, size, error.shape[1]) for w in (found, wave))
        error = error + (one - other).abs().mean(2) + (one.log() - other.log()).abs().mean(2)
    return error


def _magnitudes(wave: torch.Tensor, size: int, frames: int) -> torch.Tensor:
    padded = F.pad(wave.float(), (size // 2, size // 2))
    shape = torch.hann_window(size, device=wave.device)
    spectrum = torch.stft(padded, size, HOP, window=shape, center=False, return_complex=True)
    return spectrum[:, :, :frames].abs().clamp(min=1e-4).transpose(1, 2)
