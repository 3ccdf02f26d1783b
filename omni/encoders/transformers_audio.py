"""Audio encoders of transformers beside Whisper."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..entry import EntryError
from ..media.decode import load_audio
from ..nearest import nearest
from ..weights.stored import check_loaded, is_sketch, stored_preprocessing
from .hearing import FAMILIES, RATE, family
from .ragged import Ragged
from .windows import equally_long, windows_of

WINDOW = 30.0  # seconds
MASKED = ("mask_time_prob", "mask_feature_prob")


class TransformersAudioEncoder(nn.Module):
    """HuBERT, wav2vec2, Wav2Vec2-BERT and Qwen2-Audio's tower, by the folder's `model_type`.

    A clip is cut into windows, of 30 s unless the recipe says another length; the last one is as
    long as what is left, and padded with silence where that makes no frame. Padding to a batch is
    not attended to, or, where that would not do, left out: see `Family.leaks`. Features never
    depend on chance: dropout, skipped layers and masked frames are off.
    """

    media = "audio"
    options = ("model_config", "window_seconds")
    inputs = ("audio_values", "audio_lengths")
    host_inputs = ("audio_lengths",)

    def __init__(
        self, model_config: dict[str, Any], hearing: dict[str, Any], window_seconds: float = WINDOW
    ):
        super().__init__()
        from transformers import AutoConfig, AutoModel

        self.config = {"model_config": model_config, "hearing": hearing}
        config = AutoConfig.for_model(**copy.deepcopy(model_config))
        self.width = config.hidden_size
        self.model = AutoModel.from_config(config, dtype=torch.get_default_dtype())

    @classmethod
    def describe(cls, folder: Path | None, **spec: Any) -> dict[str, Any]:
        """Complete a recipe's entry from the folder's config.json, or from `model_config`.

        Raises:
            EntryError: no family knows the model_type, or the window does not fit it.
            ValueError: the folder's feature extractor is not the one that is known here, or the
                tower ends in an adapter.
        """
        from transformers import AutoConfig

        if folder:
            config = AutoConfig.from_pretrained(folder)
            config = getattr(config, "audio_config", config)  # Qwen2-Audio holds an LLM, too
            _check_type(config.model_type)
        else:
            _check_type(spec["model_config"].get("model_type"))
            config = AutoConfig.for_model(**spec["model_config"])
        who = f"encoder transformers_audio {config.model_type!r}"
        if getattr(config, "add_adapter", False):
            raise ValueError(f"{who} ends in an adapter; only towers without are known here")
        whole = config.to_dict()
        chance = {k: 0.0 for k in whole if "drop" in k or k in MASKED}
        model = config.to_diff_dict() | chance | {"model_type": config.model_type}
        model |= {k: whole[k] for k in FAMILIES[config.model_type].kept}
        model = json.loads(json.dumps(model))  # lists, where the library has tuples
        stored = stored_preprocessing(folder, "feature_extractor") if folder else {}
        described = {"model_config": model, "hearing": family(model).hearing(model, stored),
                     "window_seconds": spec.get("window_seconds", WINDOW)}  # fmt: skip
        _check_window(described, who, "window_seconds" in spec)
        return described

    def load_pretrained(self, folder: Path) -> None:
        """Load the folder's tower, alone or as part of a model.

        Raises:
            ValueError: a tensor of the tower is missing or has another shape, or the folder holds
                more of it than its config says.
        """
        loaded, info = type(self.model).from_pretrained(
            folder, config=self.model.config, output_loading_info=True,
            ignore_mismatched_sizes=True,
            key_mapping={r"^(model\.)?audio_tower\.": ""},
            device_map="meta" if is_sketch(self) else None,
        )  # fmt: skip
        check_loaded(folder, f"{self.model.config.model_type!r}", info)
        tops = {name.split(".")[0] for name in self.model.state_dict()}
        prefix = f"{self.model.base_model_prefix}."
        if foreign := [k for k in sorted(info["unexpected_keys"])
                       if k.removeprefix(prefix).split(".")[0] in tops]:  # fmt: skip
            raise ValueError(
                f"{folder}: holds {len(foreign)} tensors that its config does not speak of, first "
                f"{foreign[0]}"
            )
        self.model.load_state_dict(loaded.state_dict())

    @staticmethod
    def frame_seconds(config: dict[str, Any]) -> float:
        """Return the seconds of a frame."""
        return family(config["model_config"]).seconds(config)

    @staticmethod
    def preprocess(config: dict[str, Any], ref: Any) -> dict[str, torch.Tensor]:
        """Decode one clip to windows.

        Returns:
            `audio_values` (W, channels, T) and `audio_lengths` (W,): of the samples, or of the
            frames of a spectrogram, those of each window that are its own.

        Raises:
            MediaError: see `omni.media.decode.load_audio`.
        """
        own = family(config["model_config"])
        wave, window, least = load_audio(ref, RATE), _window(config), own.least(config)
        windows = [wave[at : at + window] for at in range(0, len(wave), window)]
        windows = [np.pad(w, (0, max(0, least - len(w)))) for w in windows]
        values = [own.extract(config, w) for w in windows]
        return {
            "audio_values": torch.stack(equally_long(values)),
            "audio_lengths": torch.tensor([int(own.steps(config, len(w))) for w in windows]),
        }

    @staticmethod
    def collate(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Pad the windows of a batch to the longest; the encoder leaves that out again."""
        return {
            "audio_values": torch.cat(equally_long([item["audio_values"] for item in items])),
            "audio_lengths": torch.cat([item["audio_lengths"] for item in items]),
        }

    @staticmethod
    def split(
        config: dict[str, Any], audio_values: torch.Tensor, audio_lengths: torch.Tensor
    ) -> list[tuple[torch.Tensor, ...]]:
        """Undo `collate`: the inputs of each window alone, without the batch's padding."""
        own = family(config["model_config"])
        held = [own.held(config, n) for n in audio_lengths.tolist()]
        windows = zip(audio_values.split(1), audio_lengths.split(1), held, strict=True)
        return [(values[..., :n], length) for values, length, n in windows]

    @staticmethod
    def grids(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> list[tuple[int, ...]]:
        """Tell the feature grid (frames,) of each window."""
        own = family(config["model_config"])
        return [(own.frames(config, n),) for n in tensors["audio_lengths"].tolist()]

    @staticmethod
    def grids_of(config: dict[str, Any], facts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tell the grids of clips from their facts; see `omni.encoders`."""
        own = family(config["model_config"])
        clip, samples = windows_of(facts, RATE, _window(config))
        steps = own.steps(config, np.maximum(samples, own.least(config)))
        return clip, own.frames(config, steps)[:, None]

    def forward(self, audio_values: torch.Tensor, audio_lengths: torch.Tensor) -> Ragged:
        """Encode windows (N, channels, T) to each one's own frames.

        Lengths that lie on the CPU spare the wait for a GPU.
        """
        own = family(self.config["model_config"])
        lengths = np.array(audio_lengths.tolist())  # (N,)
        if not own.leaks and len({*lengths}) > 1:
            features = own.features(self.model, audio_values, lengths)
            return Ragged.unpadded(features, own.frames(self.config, lengths))
        items: list[Any] = [None] * len(lengths)
        for length in {*lengths.tolist()}:
            rows = np.flatnonzero(lengths == length)
            where = torch.from_numpy(rows).to(audio_values.device, non_blocking=True)
            values = audio_values[..., : own.held(self.config, length)].index_select(0, where)
            for row, found in zip(rows, own.features(self.model, values, lengths[rows]),
                                  strict=True):  # fmt: skip
                items[row] = found
        return Ragged.join(items)


def _check_type(model_type: Any) -> None:
    if model_type not in FAMILIES:
        raise EntryError(
            f"transformers_audio knows no model_type {model_type!r}; "
            f"{nearest(model_type, FAMILIES)}", "encoder", "model_config", "model_type",
        )  # fmt: skip


def _check_window(config: dict[str, Any], who: str, asked: bool) -> None:
    """Make sure that a window holds a frame, and that the tower's positions cover it.

    One that nobody asked for is made as long as they do.
    """
    own, seconds = family(config["model_config"]), config["window_seconds"]
    longest = own.longest(config["model_config"])
    if not asked:
        seconds = config["window_seconds"] = min(seconds, longest / RATE)
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not own.least(config) <= seconds * RATE <= longest:
        raise EntryError(
            f"{who}: window_seconds is from {own.least(config) / RATE} to {longest / RATE:g}, not "
            f"{seconds!r}", "encoder", "window_seconds",
        )  # fmt: skip


def _window(config: dict[str, Any]) -> int:
    """Return the samples of a whole window."""
    return round(config["window_seconds"] * RATE)
