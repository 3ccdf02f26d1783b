"""Audio encoders: log-mel windows -> frame features."""

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchaudio
from torch import nn
from torch.nn import functional as F

from ..entry import EntryError
from ..media.decode import load_audio
from ..nearest import nearest
from ..weights.stored import check_loaded, is_sketch, stored_preprocessing
from .ragged import Ragged
from .windows import equally_long, windows_of

RATE = 16_000
N_FFT = 400  # samples: 25 ms
HOP = 160  # samples per mel frame: 100 Hz
STRIDE = 320  # samples per encoder frame: 50 Hz
POSITIONS = 1500  # encoder frames that Whisper's positions cover: 30 s
QUANTUM = 16  # encoder frames; clips are padded to a multiple, so few shapes occur


class WhisperEncoder(nn.Module):
    """Whisper's encoder on windows as long as its positions (30 s), run at the clip's own length.

    A clip is padded to a multiple of 0.32 s by itself, never to its batch and never past the
    positions, so its features do not depend on what else is in the batch. Longer audio becomes
    several windows.
    """

    media = "audio"
    options = ("model_config",)
    inputs = ("input_features", "audio_frames")
    host_inputs = ("audio_frames",)

    def __init__(self, model_config: dict[str, Any]):
        super().__init__()
        from transformers import WhisperConfig
        from transformers.models.whisper.modeling_whisper import WhisperEncoder as Encoder

        config = WhisperConfig(**model_config)
        self.width = config.d_model
        self.model = Encoder(config)
        del self.model._modules["embed_positions"]  # held below, sliced to the clip's length
        self.embed_positions = nn.Parameter(torch.zeros(config.max_source_positions, self.width))

    @classmethod
    def describe(cls, folder: Path | None, **spec: Any) -> dict[str, Any]:
        """Complete a recipe's entry from the folder's config.json, or from `model_config`."""
        from transformers import WhisperConfig

        config = WhisperConfig.from_pretrained(folder) if folder else None
        given = config.to_dict() if config else spec["model_config"]
        if folder:
            _check_extractor(folder, given)
        keep = ("d_model", "num_mel_bins", "encoder_layers", "encoder_attention_heads",
                "encoder_ffn_dim", "max_source_positions")  # fmt: skip
        if not folder and (foreign := sorted({*given} - {*WhisperConfig().to_dict()})):
            hint = nearest(foreign[0], keep)
            raise EntryError(f"model_config: a Whisper has no {foreign[0]!r}; {hint}",
                             "encoder", "model_config", foreign[0])  # fmt: skip
        described = {k: given[k] for k in keep if k in given}
        if (activation := given.get("activation_function", "gelu")) != "gelu":
            described["activation_function"] = activation
        return {"model_config": described}

    def load_pretrained(self, folder: Path) -> None:
        """Load the encoder of a whole Whisper.

        Raises:
            ValueError: a tensor of the encoder is missing or has another shape, or the folder
                holds more of them than its config says.
        """
        from transformers import WhisperModel

        found: Any = WhisperModel.from_pretrained(
            folder, output_loading_info=True, ignore_mismatched_sizes=True,
            device_map="meta" if is_sketch(self) else None,
        )  # fmt: skip
        loaded, info = found
        check_loaded(folder, "the encoder", info, lambda key: key.startswith("encoder."))
        mine = (key.removeprefix("model.") for key in info["unexpected_keys"])
        if foreign := sorted(key for key in mine if key.startswith("encoder.")):
            raise ValueError(
                f"{folder}: holds {len(foreign)} tensors of an encoder that its config does not "
                f"speak of, first {foreign[0]}"
            )
        state = loaded.encoder.state_dict()
        self.embed_positions.data = state.pop("embed_positions.weight")
        self.model.load_state_dict(state)

    @staticmethod
    def frame_seconds(config: dict[str, Any]) -> float:
        """Return the seconds of a frame."""
        return STRIDE / RATE

    @staticmethod
    def preprocess(config: dict[str, Any], ref: Any) -> dict[str, torch.Tensor]:
        """Decode one clip to windows.

        Returns:
            `input_features` (W, mels, 2 * T) and `audio_frames` (W,): the encoder frames (50 Hz)
            of each window that hold sound, T being the longest rounded up to `QUANTUM`, but
            never more than the encoder has positions.

        Raises:
            MediaError: see `omni.media.decode.load_audio`.
        """
        wave = torch.from_numpy(load_audio(ref, RATE))
        mels = config["model_config"].get("num_mel_bins", 80)
        positions = window_frames(config)
        windows = wave.split(positions * STRIDE)
        frames = [math.ceil(len(w) / STRIDE) for w in windows]
        features = [log_mel(F.pad(w, (0, _padded(n, positions) * STRIDE - len(w))), mels)
                    for w, n in zip(windows, frames, strict=True)]  # fmt: skip
        return {
            "input_features": torch.stack(equally_long(features)),
            "audio_frames": torch.tensor(frames),
        }

    @staticmethod
    def collate(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Pad the windows of a batch to the longest; the encoder cuts them again."""
        return {
            "input_features": torch.cat(equally_long([i["input_features"] for i in items])),
            "audio_frames": torch.cat([item["audio_frames"] for item in items]),
        }

    @staticmethod
    def grids(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> list[tuple[int, ...]]:
        """Tell the feature grid (frames,) of each window."""
        return [(n,) for n in tensors["audio_frames"].tolist()]

    @staticmethod
    def grids_of(config: dict[str, Any], facts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tell the grids of clips from their facts; see `omni.encoders`."""
        clip, samples = windows_of(facts, RATE, window_frames(config) * STRIDE)
        return clip, -(-samples // STRIDE)[:, None]

    @staticmethod
    def split(
        config: dict[str, Any], input_features: torch.Tensor, audio_frames: torch.Tensor
    ) -> list[tuple[torch.Tensor, ...]]:
        """Undo `collate`: the inputs of each window alone, without the batch's padding."""
        positions = window_frames(config)
        lengths = [2 * _padded(n, positions) for n in audio_frames.tolist()]
        return [
            (mel[..., :length], frames)
            for mel, frames, length in zip(
                input_features.split(1), audio_frames.split(1), lengths, strict=True
            )
        ]

    def forward(self, input_features: torch.Tensor, audio_frames: torch.Tensor) -> Ragged:
        """Encode windows (N, mels, 2 * T) to each one's own frames.

        Lengths that lie on the CPU spare the wait for a GPU.
        """
        frames = np.array(audio_frames.tolist())  # (N,)
        out = input_features.new_zeros(
            len(input_features), input_features.shape[2] // 2, self.width
        )
        positions = len(self.embed_positions)
        padded = [_padded(n, positions) for n in frames]
        for length in sorted(set(padded)):
            rows = torch.tensor([i for i, n in enumerate(padded) if n == length])
            rows = rows.to(out.device, non_blocking=True)
            mel = input_features[:, :, : 2 * length].index_select(0, rows)
            out[rows, :length] = self._encode(mel)
        return Ragged.unpadded(out, frames)

    def _encode(self, mel: torch.Tensor) -> torch.Tensor:
        """Encode windows of one length, (n, mels, 2 * T) -> (n, T, D)."""
        model = self.model
        hidden = F.gelu(model.conv2(F.gelu(model.conv1(mel)))).transpose(1, 2)
        hidden = hidden + self.embed_positions[: hidden.shape[1]]
        for layer in model.layers:
            hidden = layer(hidden, None)
        return model.layer_norm(hidden)


def _check_extractor(folder: Path, model: dict[str, Any]) -> None:
    """Make sure that the folder's log-mel spectrogram is the one that is computed here.

    Raises:
        ValueError: names the setting that differs.
    """
    ours = {"sampling_rate": RATE, "n_fft": N_FFT, "hop_length": HOP, "do_normalize": False,
            "feature_size": model["num_mel_bins"]}  # fmt: skip
    stored = stored_preprocessing(folder, "feature_extractor")
    for name, value in ours.items():
        if (found := stored.get(name, value)) != value:
            raise ValueError(
                f"{folder}: its feature extractor has {name} = {found!r}; this encoder hears with "
                f"{value!r}, so it would be given other spectrograms than it was trained on"
            )


def window_frames(config: dict[str, Any]) -> int:
    """Return the encoder frames of a whole window."""
    return config["model_config"].get("max_source_positions", POSITIONS)


def _padded(frames: int, positions: int) -> int:
    return min(math.ceil(frames / QUANTUM) * QUANTUM, positions)


@lru_cache
def _mel_filters(mels: int) -> torch.Tensor:
    return torchaudio.functional.melscale_fbanks(
        N_FFT // 2 + 1, 0.0, RATE / 2, mels, RATE, norm="slaney", mel_scale="slaney"
    )


def log_mel(wave: torch.Tensor, mels: int) -> torch.Tensor:
    """Whisper's log-mel spectrogram (arXiv 2212.04356, section 2.2): (samples,) -> (mels, frames).

    `samples` is a multiple of `HOP`; 25 ms Hann windows every 10 ms, floored 8 decades below the
    clip's peak, scaled to about [-1, 1].
    """
    spectrum = torch.stft(wave, N_FFT, HOP, window=torch.hann_window(N_FFT), return_complex=True)
    power = spectrum[:, :-1].abs().square()  # (201, frames): the last frame is half outside
    log = (_mel_filters(mels).T @ power).clamp(min=1e-10).log10()
    return (log.maximum(log.max() - 8.0) + 4.0) / 4.0
