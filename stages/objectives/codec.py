"""Train the audio tokenizer: sound -> codes -> sound."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from omni.encoders.codec import CodecEncoder, padded
from omni.heads.mel import FRAMES_PER_CODE
from omni.heads.mel_decoder import Decoded

from .base import Loss
from .speech import Clips, OfSound

SEEN = "codec_seen"  # in a batch: what the books were shown in the last step, over all ranks


@dataclass(frozen=True)
class CodecOptions:
    """What counts beside the reconstruction."""

    commitment: float = 0.25
    """weight of the distance between vectors and what they are quantised to"""
    dropout: float = 0.5
    """share of the clips that are decoded from fewer books than all, from 1 on"""


class Codec(OfSound):
    """Absolute and squared errors of log-mel frames, coarse and refined, and the commitment.

    Figures: `mel` is the absolute error of the refined frames, `entropy` the least of the books'
    (1: all codes are used alike), `dead` the codes that are hardly used.
    """

    options_class = CodecOptions
    figures = ("mel", "commitment", "entropy", "dead")
    hears_codes = False
    shards = False
    runs_part = "codec"
    _fresh = False  # what was seen in the last step is not learned yet

    def step_counts(self, model: Any, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        found = super().step_counts(model, batch)
        if model.training:
            self._fresh = True
            found[SEEN] = model.encoders[model.codec].quantiser.take_seen()
        return found

    def __call__(self, model: Any, batch: dict[str, Any], count: torch.Tensor) -> Loss:
        batch = dict(batch)
        seen = batch.pop(SEEN, None)
        if seen is not None and self._fresh:
            self._fresh = False
            model.encoders[model.codec].quantiser.learn(seen)
        return super().__call__(model, batch, count)

    def errors(self, model: Any, clips: Clips) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        codec: CodecEncoder = model.encoders[model.codec]
        frames = torch.tensor(clips.frames, device=clips.wave.device)
        keep = self._keep(len(frames), len(codec.books), model.training, frames.device)
        quantised = codec.quantise(
            clips.features, clips.code_frames, keep.repeat_interleave(frames)
        )
        decoded = codec.decoder(padded(quantised.values, clips.frames))
        mel = clips.mel()
        reconstruction = clips.sums(mel_error(decoded, mel))
        commitment = padded(quantised.commitment[:, None], clips.frames).sum((1, 2))
        shown = clips.sums((decoded.refined.float() - mel).abs().mean(2))
        figures = {"mel": shown.sum(), "commitment": commitment.sum()}
        return reconstruction + self.options.commitment * commitment, figures

    def _keep(self, clips: int, books: int, training: bool, device: Any) -> torch.Tensor:
        """Draw how many books each clip keeps: (W,)."""
        every = torch.full((clips,), books, device=device)
        if not training:
            return every
        some = torch.randint(1, books + 1, (clips,), device=device)
        return torch.where(torch.rand(clips, device=device) < self.options.dropout, some, every)

    def state(self, model: Any) -> dict[str, torch.Tensor]:
        books = model.encoders[model.codec].quantiser.books
        return {
            "entropy": torch.stack([book.entropy() for book in books]).min(),
            "dead": sum((book.dead().sum() for book in books), torch.zeros_like(books[0].usage[0])),
        }


def mel_error(decoded: Decoded, mel: torch.Tensor) -> torch.Tensor:
    """Return the error by mel frame, (B, T): of coarse and refined, fine and averaged over 80 ms.

    Args:
        decoded: (B, T, BINS) each.
        mel: (B, T, BINS), T a multiple of `FRAMES_PER_CODE`.
    """
    error = torch.zeros(mel.shape[:2], device=mel.device)
    for found in decoded:
        off = found.float() - mel
        slow = F.avg_pool1d(off.transpose(1, 2), FRAMES_PER_CODE).transpose(1, 2)
        slow = slow.repeat_interleave(FRAMES_PER_CODE, 1)
        for each in (off, slow):
            error = error + each.abs().mean(2) + each.square().mean(2)
    return error
