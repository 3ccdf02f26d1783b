"""Log-mel frames -> a wave, by a HiFi-GAN that is trained already (Kong, arXiv 2010.05646)."""

import copy
import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torchaudio
from torch import nn
from torch.nn import functional as F

from ..entry import EntryError
from ..weights.stored import check_loaded, is_sketch
from .causal import State
from .mel import FLOOR, HOP, N_FFT, RATE, SAMPLES_PER_CODE, magnitudes

MODEL_TYPES = ("speecht5_hifigan", "hifigan")  # transformers' name for it, now and at first
N_FFT_THERE, LOWEST, HIGHEST = 1024, 80.0, 7600.0  # its spectra: samples, Hz


class HifiGan(nn.Module):
    """The vocoder of SpeechT5 as transformers has it, on frames as the flow makes them.

    Its own frames are others: 62.5 in a second of 16 kHz, of longer windows, between 80 and 7600
    Hz. Ours are turned into those by their likeliest spectra, and read between where they lie.
    It sees frames to come, `context` of them, so as a stream it is that much behind, and makes as
    many again at each chunk.
    """

    role = "vocoder"
    options = ("model_config",)

    def __init__(self, model_config: dict[str, Any] | None = None):
        super().__init__()
        from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

        config = SpeechT5HifiGanConfig(**copy.deepcopy(model_config or {}))
        self.model = SpeechT5HifiGan(config)
        self.hop = _hop(config)
        self.context = _context(config)
        """frames of its own that a sample depends on, before and after it"""

    @staticmethod
    def check(options: dict[str, Any]) -> None:
        """Refuse a config that is of no such net, or of frames that ours cannot become.

        Raises:
            EntryError: says what it is and what it should be.
        """
        from transformers import SpeechT5HifiGanConfig

        given = options.get("model_config") or {}
        if not isinstance(given, dict):
            raise EntryError(f"model_config is a mapping, not {given!r}", "model_config")
        model_type = given.get("model_type", MODEL_TYPES[0])
        if model_type not in MODEL_TYPES:
            raise EntryError(f"it is a {model_type!r}, not {' or '.join(MODEL_TYPES)}",
                             "model_config")  # fmt: skip
        config = SpeechT5HifiGanConfig(**copy.deepcopy(given))
        rate, hop = config.sampling_rate, _hop(config)
        if rate != RATE or hop < HOP or SAMPLES_PER_CODE % hop:
            raise EntryError(
                f"it makes {hop} samples a frame, at {rate} Hz; what it is shown here is of {RATE} "
                f"Hz, {SAMPLES_PER_CODE} samples at once, a whole number of frames, each of {HOP} "
                "at least", "model_config",
            )  # fmt: skip

    @staticmethod
    def describe(folder: Path) -> dict[str, Any]:
        """Return the options that the folder's config.json stands for."""
        found = json.loads((folder / "config.json").read_text())
        return {"model_config": found}

    def load_pretrained(self, folder: Path) -> None:
        """Load the folder's net.

        Raises:
            ValueError: a tensor is missing or has another shape.
        """
        loaded, info = type(self.model).from_pretrained(  # type: ignore[misc]
            folder, config=self.model.config, output_loading_info=True,
            ignore_mismatched_sizes=True, device_map="meta" if is_sketch(self) else None,
        )  # fmt: skip
        check_loaded(folder, f"{MODEL_TYPES[0]!r}", info)
        self.model.load_state_dict(loaded.state_dict())

    def forward(self, mel: torch.Tensor, state: State | None = None) -> torch.Tensor:
        """Make the wave of the next frames: (B, T, BINS) -> (B, samples); T of whole codes.

        Without a state these are T * HOP samples. With one, what frames to come have a say in is
        held back; after the last of them, `rest` has it.
        """
        frames = self.frames(mel)
        if state is None:
            return self.model(frames).float()
        kept, given = state.get(self, (frames[:, :0], 0))
        return self._new(torch.cat([kept, frames], 1), given, self.context, state)

    def rest(self, state: State) -> torch.Tensor:
        """Return what a stream still holds back, once its frames are at an end: (B, samples)."""
        kept, given = state.pop(self)
        return self._new(kept, given, 0, {})

    def net(self, mel: torch.Tensor) -> torch.Tensor:
        """Run the net alone, on silence as long as some frames: (B, T, BINS) -> (B, T * HOP)."""
        count = mel.shape[1] * HOP // self.hop
        return self.model(mel.new_zeros(len(mel), count, self.model.config.model_in_dim))

    def frames(self, mel: torch.Tensor) -> torch.Tensor:
        """Turn frames into those that the net knows: (B, T, BINS) -> (B, T * HOP / hop, bins).

        As SpeechT5's feature extractor makes them: log10 of mel bins of magnitudes; none below
        the floor of ours, which tell nothing of what is there.
        """
        count = mel.shape[1] * HOP // self.hop
        at = torch.arange(count, device=mel.device) * self.hop  # in samples
        before, share = at // HOP, (at % HOP / HOP)[:, None]
        after = (before + 1).clamp(max=mel.shape[1] - 1)
        between = mel[:, before] * (1 - share) + mel[:, after] * share
        # bins of a longer window are narrower, and so more of them add up; and what is no steady
        # tone, as little of speech is, is larger there by the root of the windows' lengths
        spectra = F.interpolate(magnitudes(between), N_FFT_THERE // 2 + 1, mode="linear",
                                align_corners=True)  # fmt: skip
        louder = (N_FFT_THERE / N_FFT) ** 0.5
        bins = louder * spectra @ _filters(self.model.config.model_in_dim, str(mel.device))
        return bins.clamp(min=FLOOR).log10().to(mel.dtype)

    def _new(self, frames: torch.Tensor, given: int, held: int, state: State) -> torch.Tensor:
        """Make what is new of frames of which the first `given` were heard already."""
        ready = frames.shape[1] - held
        if ready <= given:
            state[self] = frames, given
            return frames.new_zeros(len(frames), 0)
        wave = self.model(frames)[:, given * self.hop : ready * self.hop].float()
        drop = max(0, ready - self.context)
        state[self] = frames[:, drop:], ready - drop
        return wave


def _hop(config: Any) -> int:
    """Return the samples of a frame."""
    return math.prod(config.upsample_rates)


def _context(config: Any) -> int:
    """Return how many frames before and after a frame its samples depend on, at most."""
    reach, step = 3.0, 1.0  # of the first convolution, in frames; of a sample there
    widest = max(
        sum((size - 1) // 2 * (dilation + 1) for dilation in dilations)
        for size, dilations in zip(
            config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True
        )
    )
    for rate, size in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
        reach += step * -(-size // (2 * rate))
        step /= rate
        reach += step * widest
    return int(reach + step * 3) + 1  # the last convolution's


@lru_cache
def _filters(bins: int, device: str) -> torch.Tensor:
    filters = torchaudio.functional.melscale_fbanks(
        N_FFT_THERE // 2 + 1, LOWEST, HIGHEST, bins, RATE, norm="slaney", mel_scale="slaney"
    )
    return filters.to(device)  # (513, bins)
