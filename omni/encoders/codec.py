"""The audio tokenizer: sound -> codes of several books at 12.5 Hz, and codes -> log-mel frames."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..entry import EntryError, check_whole
from ..heads.mel import RATE, SAMPLES_PER_CODE
from ..heads.mel_decoder import Decoded, MelDecoder
from ..heads.quantiser import Quantised, ResidualQuantiser
from ..media.decode import load_audio
from .audio import STRIDE, WhisperEncoder, window_frames
from .ragged import Ragged
from .windows import equally_long, windows_of

FOLD = 4  # encoder frames (50 Hz) of a code frame (12.5 Hz)
BOOKS = [8192, 4096, 2048, 1024, 1024, 1024, 1024, 1024]  # Baichuan-Audio-Tokenizer's


class CodecEncoder(nn.Module):
    """Whisper's encoder, a gated convolution to 12.5 Hz, a residual quantiser, and a mel decoder.

    As the Baichuan-Audio tokenizer (arXiv 2502.17239). What leaves it are codes, one row for each
    frame, and after a clip's last frame a row of end codes, which are the sizes of the books. A
    clip is padded with silence to whole frames, 80 ms, so none of its sound is lost.
    """

    media = "audio"
    gives = "codes"
    options = ("model_config", "books", "hidden", "decoder_hidden", "decoder_layers", "decay")
    inputs = ("code_features", "code_wave", "code_frames")
    host_inputs = ("code_frames",)

    def __init__(
        self, model_config: dict[str, Any], books: list[int], hidden: int, decoder_hidden: int,
        decoder_layers: int, decay: float,
    ):  # fmt: skip
        super().__init__()
        self.whisper = WhisperEncoder(model_config)
        inner = self.whisper.width
        self.gate = nn.Conv1d(inner, hidden, FOLD, FOLD)
        self.up = nn.Conv1d(inner, hidden, FOLD, FOLD)
        self.down = nn.Linear(hidden, inner)
        self.norm = nn.LayerNorm(inner)
        self.quantiser = ResidualQuantiser(books, inner, decay)
        self.decoder = MelDecoder(inner, decoder_hidden, decoder_layers)
        self.books, self.width = tuple(books), len(books)
        self.code_width = inner

    @classmethod
    def describe(cls, folder: Path | None, **spec: Any) -> dict[str, Any]:
        """Complete a recipe's entry, with Whisper's settings as `WhisperEncoder` has them.

        Raises:
            EntryError: a number or a list of books that cannot be.
        """
        own = {"books": BOOKS, "hidden": 0, "decoder_hidden": 256, "decoder_layers": 8,
               "decay": 0.99}  # fmt: skip
        own |= {key: spec.pop(key) for key in own if key in spec}
        whisper = WhisperEncoder.describe(folder, **spec)
        own["hidden"] = own["hidden"] or 4 * whisper["model_config"].get("d_model", 384)
        books = own["books"] if isinstance(own["books"], list | tuple) else ()
        if not books or not all(type(n) is int and n > 1 for n in books):
            raise EntryError("books is a list of how many codes each has, such as [512, 256], not "
                             f"{own['books']!r}", "encoder", "books")  # fmt: skip
        own["books"] = list(books)
        for key in ("hidden", "decoder_hidden", "decoder_layers"):
            check_whole(key, own[key], "encoder")
        if not isinstance(own["decay"], float) or not 0 < own["decay"] < 1:
            raise EntryError(f"decay is between 0 and 1, not {own['decay']!r}", "encoder", "decay")
        if window_frames(whisper) % FOLD:
            raise EntryError(f"max_source_positions is a multiple of {FOLD}, not "
                             f"{window_frames(whisper)}", "encoder", "model_config")  # fmt: skip
        return {**whisper, **own}

    @property
    def started(self) -> bool:
        """Whether its books hold anything yet."""
        return self.quantiser.started

    def load_pretrained(self, folder: Path) -> None:
        """Load Whisper's encoder; the rest has no weights but those that a stage trains.

        Raises:
            ValueError: see `WhisperEncoder`.
        """
        self.whisper.load_pretrained(folder)

    @staticmethod
    def frame_seconds(config: dict[str, Any]) -> float:
        """Return the seconds of a frame."""
        return SAMPLES_PER_CODE / RATE

    @staticmethod
    def preprocess(config: dict[str, Any], ref: Any) -> dict[str, torch.Tensor]:
        """Decode one clip to windows of at most Whisper's positions.

        Returns:
            `code_features` (W, mels, 2 T), as `WhisperEncoder` makes them; `code_wave`
            (W, samples), zeros after a window's own; and `code_frames` (W, 2): frames of the
            window, and 1 where the clip ends with it.

        Raises:
            MediaError: see `omni.media.decode.load_audio`.
        """
        wave = load_audio(ref, RATE)
        wave = np.pad(wave, (0, -len(wave) % SAMPLES_PER_CODE))
        made = WhisperEncoder.preprocess(config, wave)
        frames = torch.stack([made["audio_frames"] // FOLD, torch.zeros_like(made["audio_frames"])])
        frames[1, -1] = 1
        windows = torch.from_numpy(wave).split(window_frames(config) * STRIDE)
        return {
            "code_features": made["input_features"],
            "code_wave": torch.stack(equally_long([*windows])),
            "code_frames": frames.T.contiguous(),
        }

    @staticmethod
    def collate(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Pad the windows of a batch to the longest; `forward` cuts them again."""
        joined = {"code_frames": torch.cat([item["code_frames"] for item in items])}
        for name in ("code_features", "code_wave"):
            joined[name] = torch.cat(equally_long([item[name] for item in items]))
        return joined

    @staticmethod
    def grids(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> list[tuple[int, ...]]:
        """Tell the grid (frames,) of each window, its end among them."""
        return [(n,) for n in tensors["code_frames"].sum(1).tolist()]

    @staticmethod
    def grids_of(config: dict[str, Any], facts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tell the grids of clips from their facts; see `omni.encoders`."""
        clip, samples = windows_of(facts, RATE, window_frames(config) * STRIDE)
        last = np.append(clip[1:] != clip[:-1], True)[: len(clip)]
        return clip, (-(-samples // SAMPLES_PER_CODE) + last)[:, None]

    @staticmethod
    def split(
        config: dict[str, Any], code_features: torch.Tensor, code_wave: torch.Tensor,
        code_frames: torch.Tensor,
    ) -> list[tuple[torch.Tensor, ...]]:  # fmt: skip
        """Undo `collate`: the inputs of each window alone, without the batch's padding."""
        own = WhisperEncoder.split(config, code_features, code_frames[:, 0] * FOLD)
        return [
            (features, wave[:, : int(frames[0, 0]) * SAMPLES_PER_CODE], frames)
            for (features, _), wave, frames in zip(
                own, code_wave.split(1), code_frames.split(1), strict=True
            )
        ]

    def vectors(self, code_features: torch.Tensor, code_frames: torch.Tensor) -> torch.Tensor:
        """Encode windows up to the quantiser: (sum of frames, D), one after the other."""
        trained = any(p.requires_grad for p in self.whisper.parameters())
        with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
            heard = self.whisper(code_features, code_frames[:, 0] * FOLD).values
        x = heard.T[None]  # (1, D, 4 frames): no frame sees another's quarter
        gated = (F.silu(self.gate(x)) * self.up(x))[0].T
        return self.norm(heard.unflatten(0, (-1, FOLD)).mean(1) + self.down(gated))

    def quantise(
        self, code_features: torch.Tensor, code_frames: torch.Tensor, keep: torch.Tensor
    ) -> Quantised:
        """Encode windows, and let each frame keep its first `keep` (sum of frames,) books."""
        return self.quantiser(self.vectors(code_features, code_frames), keep)

    def forward(
        self, code_features: torch.Tensor, code_wave: torch.Tensor, code_frames: torch.Tensor
    ) -> Ragged:
        """Encode windows to codes (frames, books), and a row of end codes after each clip."""
        vectors = self.vectors(code_features, code_frames)
        codes = self.quantiser.encode(vectors)
        end = codes.new_tensor([self.books])
        frames = code_frames.tolist()
        parts = codes.split([n for n, _ in frames])
        return Ragged.join(
            [torch.cat([part, end]) if ends else part
             for part, (_, ends) in zip(parts, frames, strict=True)]
        )  # fmt: skip

    def decode(self, codes: torch.Tensor) -> Decoded:
        """Make log-mel frames of a clip's codes: (n, up to all books) -> (1, 8 n, BINS).

        Raises:
            ValueError: a code that its book does not have; end codes are none.
        """
        return self.decoder(self.quantiser.lookup(codes)[None].to(self.norm.weight.dtype))


def padded(values: torch.Tensor, frames: list[int]) -> torch.Tensor:
    """Lay items side by side, zeros after their ends: (sum of frames, D) -> (B, T, D)."""
    return nn.utils.rnn.pad_sequence(list(values.split(frames)), batch_first=True)
