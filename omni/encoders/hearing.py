"""How families of transformers' audio towers hear: what they are given, and how much of it.

A family is functions of a described config (`model_config`, `hearing`) and of numbers, of
arrays too: samples at 16 kHz become steps, what the tower is given, and steps become frames.
"""

import json
import math
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

RATE = 16_000


class Family:
    """What is asked of a family, and what most answer."""

    extractor: ClassVar[str]
    """the class of transformers that makes steps of samples"""
    kept: ClassVar[tuple[str, ...]]
    """settings of the tower that the functions below read"""
    leaks: ClassVar[bool] = False
    """whether padding changes features in spite of a mask, so clips run at their own lengths"""

    @staticmethod
    def hearing(model: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
        """Return the extractor's settings, of what a folder holds of them.

        Raises:
            ValueError: the extractor is another than the functions count by.
        """
        raise NotImplementedError

    @staticmethod
    def longest(model: dict[str, Any]) -> float:
        """Return the samples that the tower's positions cover."""
        return math.inf

    @staticmethod
    def least(config: dict[str, Any]) -> int:
        """Return the samples of one frame; shorter clips are padded with silence."""
        raise NotImplementedError

    @staticmethod
    def steps(config: dict[str, Any], samples: Any) -> Any:
        """Tell how many steps samples make."""
        return samples

    @staticmethod
    def frames(config: dict[str, Any], steps: Any) -> Any:
        """Tell how many frames steps make."""
        return steps

    @staticmethod
    def seconds(config: dict[str, Any]) -> float:
        """Return the seconds of a frame."""
        raise NotImplementedError

    @staticmethod
    def held(config: dict[str, Any], steps: int) -> int:
        """Return how many steps are given to the tower for a clip of `steps`."""
        return steps

    @classmethod
    def extract(cls, config: dict[str, Any], wave: np.ndarray) -> torch.Tensor:
        """Return what the tower is given of a wave, (channels, `held`)."""
        raise NotImplementedError

    @staticmethod
    def features(model: Any, values: torch.Tensor, lengths: np.ndarray) -> torch.Tensor:
        """Return features (N, T, D) of clips (N, channels, held) of so many steps (N,)."""
        raise NotImplementedError


class Waves(Family):
    """wav2vec2 and HuBERT (arXiv 2006.11477, 2106.07447): convolutions over samples."""

    extractor = "Wav2Vec2FeatureExtractor"
    kept = ("conv_kernel", "conv_stride", "feat_extract_norm")

    @staticmethod
    def hearing(model: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
        _check(stored, {"sampling_rate": RATE, "feature_size": 1})
        return {"do_normalize": stored.get("do_normalize", True)}

    @staticmethod
    def least(config: dict[str, Any]) -> int:
        samples = 1
        for kernel, stride in reversed(_convolutions(config)):
            samples = (samples - 1) * stride + kernel
        return samples

    @staticmethod
    def frames(config: dict[str, Any], steps: Any) -> Any:
        for kernel, stride in _convolutions(config):
            steps = (steps - kernel) // stride + 1
        return steps

    @staticmethod
    def seconds(config: dict[str, Any]) -> float:
        return math.prod(stride for _, stride in _convolutions(config)) / RATE

    @classmethod
    def extract(cls, config: dict[str, Any], wave: np.ndarray) -> torch.Tensor:
        return _extracted(cls, config, wave)["input_values"]

    @staticmethod
    def features(model: Any, values: torch.Tensor, lengths: np.ndarray) -> torch.Tensor:
        mask = _mask(lengths, values.shape[2], values.device)
        return model(values[:, 0], attention_mask=mask).last_hidden_state


class GroupNormWaves(Waves):
    """Those whose first convolution is normalised over time: padding would change its scale."""

    leaks = True


class Filterbanks(Family):
    """Wav2Vec2-BERT (arXiv 2312.05187): Kaldi's log-mel frames of 10 ms, two to a step."""

    extractor = "SeamlessM4TFeatureExtractor"
    kept = ("feature_projection_input_dim",)
    FRAME, HOP, STRIDE = 400, 160, 2

    @classmethod
    def hearing(cls, model: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
        mels = model["feature_projection_input_dim"] // cls.STRIDE
        settings = {"num_mel_bins": mels, "feature_size": mels, "stride": cls.STRIDE}
        _check(stored, {"sampling_rate": RATE, **settings})
        return settings

    @classmethod
    def least(cls, config: dict[str, Any]) -> int:
        return cls.FRAME + (cls.STRIDE - 1) * cls.HOP

    @classmethod
    def steps(cls, config: dict[str, Any], samples: Any) -> Any:
        return ((samples - cls.FRAME) // cls.HOP + 1) // cls.STRIDE

    @classmethod
    def seconds(cls, config: dict[str, Any]) -> float:
        return cls.STRIDE * cls.HOP / RATE

    @classmethod
    def extract(cls, config: dict[str, Any], wave: np.ndarray) -> torch.Tensor:
        found = _extracted(cls, config, wave)
        return found["input_features"][0, : cls.steps(config, len(wave))].T

    @staticmethod
    def features(model: Any, values: torch.Tensor, lengths: np.ndarray) -> torch.Tensor:
        mask = _mask(lengths, values.shape[2], values.device)
        return model(values.transpose(1, 2), attention_mask=mask).last_hidden_state


class PooledMels(Family):
    """Qwen2-Audio's tower (arXiv 2407.10759): Whisper's, with pairs of frames averaged: 25 Hz.

    Its authors run it on 30 s, silence not attended to. So a clip is run at its own length, with
    as much of the silence as its convolutions see.
    """

    extractor = "WhisperFeatureExtractor"
    kept = ("num_mel_bins", "max_source_positions")
    HOP = 160
    REACH = 2
    """steps of the silence that a clip's last frame sees, or that see samples of the clip"""

    @classmethod
    def hearing(cls, model: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
        settings = {"feature_size": model["num_mel_bins"], "n_fft": 400, "hop_length": cls.HOP}
        _check(stored, {"sampling_rate": RATE, "do_normalize": False, **settings})
        return settings

    @classmethod
    def longest(cls, model: dict[str, Any]) -> float:
        return model["max_source_positions"] * 2 * cls.HOP

    @classmethod
    def least(cls, config: dict[str, Any]) -> int:
        return 2 * cls.HOP + 1

    @classmethod
    def steps(cls, config: dict[str, Any], samples: Any) -> Any:
        return -(-samples // cls.HOP)

    @staticmethod
    def frames(config: dict[str, Any], steps: Any) -> Any:
        return (steps + 1) // 2 // 2

    @classmethod
    def seconds(cls, config: dict[str, Any]) -> float:
        return 4 * cls.HOP / RATE

    @classmethod
    def held(cls, config: dict[str, Any], steps: int) -> int:
        return min(steps + cls.REACH, 2 * config["model_config"]["max_source_positions"])

    @classmethod
    def extract(cls, config: dict[str, Any], wave: np.ndarray) -> torch.Tensor:
        held = cls.held(config, cls.steps(config, len(wave)))
        whole = int(cls.longest(config["model_config"]))
        heard = min((held + cls.REACH) * cls.HOP, whole)  # an end of the sound is mirrored
        found = _extracted(cls, config, np.pad(wave, (0, heard - len(wave))),
                           padding=False, truncation=False)  # fmt: skip
        return found["input_features"][0, :, :held]

    @staticmethod
    def features(model: Any, values: torch.Tensor, lengths: np.ndarray) -> torch.Tensor:
        from transformers.masking_utils import create_bidirectional_mask

        frames = (lengths + 1) // 2  # (N,): before pairs are averaged
        hidden = F.gelu(model.conv2(F.gelu(model.conv1(values)))).transpose(1, 2)
        hidden = hidden[:, : frames.max()]
        hidden = hidden + model.embed_positions.weight[: hidden.shape[1]]
        mask = create_bidirectional_mask(
            config=model.config, inputs_embeds=hidden,
            attention_mask=_mask(frames, hidden.shape[1], hidden.device),
        )  # fmt: skip
        for layer in model.layers:
            hidden = layer(hidden, mask)
        return model.layer_norm(model.avg_pooler(hidden.transpose(1, 2)).transpose(1, 2))


FAMILIES: dict[str, type[Family]] = {
    "wav2vec2": Waves,
    "hubert": Waves,
    "wav2vec2-bert": Filterbanks,
    "qwen2_audio_encoder": PooledMels,
}
"""by `model_type`"""


def family(model: dict[str, Any]) -> type[Family]:
    """Return the family of a tower by its settings."""
    found = FAMILIES[model["model_type"]]
    return GroupNormWaves if model.get("feat_extract_norm") == "group" else found


def _convolutions(config: dict[str, Any]) -> list[tuple[int, int]]:
    """Return kernel and stride of each."""
    model = config["model_config"]
    return list(zip(model["conv_kernel"], model["conv_stride"], strict=True))


def _check(stored: dict[str, Any], ours: dict[str, Any]) -> None:
    for name, value in ours.items():
        if (found := stored.get(name, value)) != value:
            raise ValueError(
                f"its feature extractor has {name} = {found!r}; this encoder hears with "
                f"{value!r}, so it would be given other sound than it was trained on"
            )


def _extracted(own: type[Family], config: dict[str, Any], wave: np.ndarray, **how: Any) -> Any:
    extractor = _extractor(own.extractor, json.dumps(config["hearing"]))
    return extractor(wave, sampling_rate=RATE, return_tensors="pt", **how)


@lru_cache
def _extractor(name: str, settings: str) -> Any:
    import transformers

    return getattr(transformers, name)(**json.loads(settings))


def _mask(lengths: np.ndarray, steps: int, device: torch.device) -> torch.Tensor | None:
    """Return which of so many steps are no padding, (N, steps), or None where none is."""
    if (lengths == steps).all():
        return None
    mask = torch.from_numpy(np.arange(steps) < lengths[:, None])
    return mask.to(device, non_blocking=True)
