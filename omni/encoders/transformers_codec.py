"""Neural codecs of transformers, as they were trained: sound -> codes, and codes -> sound."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..entry import EntryError, check_whole
from ..heads.quantiser import check_codes
from ..media.decode import load_audio
from ..nearest import nearest
from ..weights.stored import check_loaded, is_sketch
from .ragged import Ragged
from .windows import equally_long, windows_of

WINDOW = 30  # seconds; no codec needs more to know what a frame holds
FAMILIES = {"mimi": "num_quantizers", "encodec": "num_quantizers", "dac": "n_codebooks"}
"""a model_type -> what its config calls the number of its books"""


class TransformersCodec(nn.Module):
    """Mimi, EnCodec or DAC, by the folder's `model_type`: codes of its first `books` books.

    What leaves it is as of `CodecEncoder`: one row of codes for each frame, and after a clip's last
    frame a row of end codes. It is never trained here, and makes its own sound, so that it needs
    neither a flow nor a vocoder. A clip is padded with silence to whole frames.
    """

    media = "audio"
    gives = "codes"
    options = ("model_config", "books")
    inputs = ("code_wave", "code_frames")
    host_inputs = ("code_frames",)
    code_width = None
    started = True

    def __init__(self, model_config: dict[str, Any], books: int, rate: int, hop: int):
        super().__init__()
        from transformers import AutoConfig, AutoModel

        config = AutoConfig.for_model(**copy.deepcopy(model_config))
        self.model = AutoModel.from_config(config, dtype=torch.get_default_dtype())
        self.books, self.width = (config.codebook_size,) * books, books
        self.rate, self.hop = rate, hop
        self.causal = bool(getattr(config, "use_causal_conv", False))
        """whether no sound depends on codes that come after it"""

    @classmethod
    def describe(cls, folder: Path | None, **spec: Any) -> dict[str, Any]:
        """Complete a recipe's entry from the folder's config.json, or from `model_config`.

        Raises:
            EntryError: no such model_type or number of books, or one that scales each clip, whose
                codes alone do not say how loud it is.
        """
        from transformers import AutoConfig

        kind = {} if folder else spec["model_config"]
        config = AutoConfig.from_pretrained(folder) if folder else None
        model_type = config.model_type if config else kind.get("model_type")
        if model_type not in FAMILIES:
            raise EntryError(
                f"transformers_codec knows no model_type {model_type!r}; "
                f"{nearest(model_type, FAMILIES)}", "encoder", "model_config", "model_type",
            )  # fmt: skip
        config = config or AutoConfig.for_model(**kind)
        if getattr(config, "normalize", False) or getattr(config, "audio_channels", 1) != 1:
            raise EntryError(f"this {model_type} scales clips or has several channels; its codes "
                             "alone are no sound", "encoder", "weights")  # fmt: skip
        most = getattr(config, FAMILIES[model_type])
        books = spec.get("books", min(8, most))
        check_whole("books", books, "encoder")
        if books > most:
            raise EntryError(f"this {model_type} has {most} books, not {books}", "encoder", "books")
        found = config.to_diff_dict() | {"model_type": model_type}
        rate = config.sampling_rate
        hop = round(rate / config.frame_rate) if model_type == "mimi" else int(config.hop_length)
        return {"model_config": json.loads(json.dumps(found)), "books": books, "rate": rate,
                "hop": hop}  # fmt: skip

    def load_pretrained(self, folder: Path) -> None:
        """Load the folder's codec.

        Raises:
            ValueError: a tensor is missing or has another shape.
        """
        loaded, info = type(self.model).from_pretrained(
            folder, config=self.model.config, output_loading_info=True,
            ignore_mismatched_sizes=True, device_map="meta" if is_sketch(self) else None,
        )  # fmt: skip
        check_loaded(folder, f"{self.model.config.model_type!r}", info)
        self.model.load_state_dict(loaded.state_dict())

    @staticmethod
    def frame_seconds(config: dict[str, Any]) -> float:
        """Return the seconds of a frame."""
        return config["hop"] / config["rate"]

    @staticmethod
    def preprocess(config: dict[str, Any], ref: Any) -> dict[str, torch.Tensor]:
        """Decode one clip to windows.

        Returns:
            `code_wave` (W, samples) at the codec's rate, zeros after a window's own; and
            `code_frames` (W, 2): frames of the window, and 1 where the clip ends with it.

        Raises:
            MediaError: see `omni.media.decode.load_audio`.
        """
        wave, hop = load_audio(ref, config["rate"]), config["hop"]
        windows = torch.from_numpy(np.pad(wave, (0, -len(wave) % hop))).split(_window(config))
        frames = torch.tensor([[len(window) // hop, 0] for window in windows])
        frames[-1, 1] = 1
        return {"code_wave": torch.stack(equally_long([*windows])), "code_frames": frames}

    @staticmethod
    def collate(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Pad the windows of a batch to the longest; `forward` cuts them again."""
        return {
            "code_wave": torch.cat(equally_long([item["code_wave"] for item in items])),
            "code_frames": torch.cat([item["code_frames"] for item in items]),
        }

    @staticmethod
    def split(
        config: dict[str, Any], code_wave: torch.Tensor, code_frames: torch.Tensor
    ) -> list[tuple[torch.Tensor, ...]]:
        """Undo `collate`: the inputs of each window alone, without the batch's padding."""
        pairs = zip(code_wave.split(1), code_frames.split(1), strict=True)
        return [(wave[:, : int(frames[0, 0]) * config["hop"]], frames) for wave, frames in pairs]

    @staticmethod
    def grids(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> list[tuple[int, ...]]:
        """Tell the grid (frames,) of each window, its end among them."""
        return [(n,) for n in tensors["code_frames"].sum(1).tolist()]

    @staticmethod
    def grids_of(config: dict[str, Any], facts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tell the grids of clips from their facts; see `omni.encoders`."""
        clip, samples = windows_of(facts, config["rate"], _window(config))
        last = np.append(clip[1:] != clip[:-1], True)[: len(clip)]
        return clip, (-(-samples // config["hop"]) + last)[:, None]

    @torch.no_grad()
    def forward(self, code_wave: torch.Tensor, code_frames: torch.Tensor) -> Ragged:
        """Encode windows to codes (frames, books), and a row of end codes after each clip.

        Each is encoded without the batch's padding: not every codec is causal.
        """
        found = []
        for wave, (frames, ends) in zip(code_wave, code_frames.tolist(), strict=True):
            codes = self._codes(wave[None, None, : frames * self.hop])
            end = codes.new_tensor([self.books])
            found.append(torch.cat([codes, end]) if ends else codes)
        return Ragged.join(found)

    def _codes(self, wave: torch.Tensor) -> torch.Tensor:
        """Encode one wave, (1, 1, samples) -> (frames, books)."""
        family, books = self.model.config.model_type, len(self.books)
        if wave.is_meta:  # where these codecs read lengths of values, and there are none
            shape = wave.shape[2] // self.hop, books
            return torch.empty(shape, dtype=torch.long, device=wave.device)
        if family == "encodec":  # its first books are the same at every bandwidth
            most = max(self.model.config.target_bandwidths)
            codes = self.model.encode(wave, bandwidth=most).audio_codes[0]
        elif family == "mimi":
            codes = self.model.encode(wave, num_quantizers=books).audio_codes
        else:
            codes = self.model.encode(wave, n_quantizers=books).audio_codes
        return codes[0, :books].T

    @torch.no_grad()
    def wave(self, codes: torch.Tensor) -> torch.Tensor:
        """Make the sound of codes: (n, books) -> (n * hop,) float32 at `rate`.

        Raises:
            ValueError: a code that its book does not have; end codes are none.
        """
        check_codes(codes, [*self.books])
        if not len(codes):
            return torch.zeros(0, device=codes.device)
        stacked = codes.T[None]  # (1, books, n)
        family = self.model.config.model_type
        if family == "encodec":
            made = self.model.decode(stacked[None], [None])
        else:
            made = self.model.decode(audio_codes=stacked)
        return made.audio_values.flatten()[: len(codes) * self.hop].float()


def _window(config: dict[str, Any]) -> int:
    """Return the samples of a whole window, at the codec's rate."""
    return WINDOW * config["rate"] // config["hop"] * config["hop"]
