"""What objectives of sound have in common: a sample's clips, and losses by frame of codes."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch

from data_shards.shards.rendering import Rendering
from omni.encoders.codec import CodecEncoder, padded
from omni.entry import EntryError
from omni.heads.mel import FRAMES_PER_CODE, log_mel
from omni.model.embeds import touched
from omni.processing.messages import MessageError, assistant, user

from .base import Loss, Objective, token_documents

COUNTS = "frame_counts"  # in a batch: frames and labels of the whole step


class Sounds(Rendering):
    """The clips of a sample, whoever says them, as one answer; its words do not count."""

    name = "sounds"

    def documents(self, row: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
        parts = [p for m in row["messages"] for p in m["content"] if p["type"] == "audio"]
        if not parts:
            raise MessageError("it has no sound, and this objective is trained on nothing else")
        return [[user("."), assistant(*parts)]]


class Clips(NamedTuple):
    """The windows of sound of a batch."""

    features: torch.Tensor
    """(W, mels, 2 T)"""
    wave: torch.Tensor
    """(W, samples), zeros after a window's own"""
    code_frames: torch.Tensor
    """(W, 2), on the host: see `CodecEncoder`"""
    owner: torch.Tensor
    """(W,): the document of each"""

    @property
    def frames(self) -> list[int]:
        """Return how many frames of codes each window has."""
        return self.code_frames[:, 0].tolist()

    def mel(self) -> torch.Tensor:
        """Return log-mel frames, (W, 8 T, BINS)."""
        return log_mel(self.wave)

    def sums(self, errors: torch.Tensor) -> torch.Tensor:
        """Add up errors by mel frame, (W, 8 T), over each window's own: (W,), by code frame."""
        own = torch.tensor(self.frames, device=errors.device) * FRAMES_PER_CODE
        inside = torch.arange(errors.shape[1], device=errors.device) < own[:, None]
        return errors.masked_fill(~inside, 0.0).sum(1) / FRAMES_PER_CODE


def clips_of(model: Any, batch: dict[str, Any]) -> Clips | None:
    """Take the windows of sound out of a batch, None if it has none."""
    name = model.codec
    media, places = model.take_media(name, batch), batch.pop(f"{name}_features", None)
    if media is None:
        return None
    features, wave, frames = media
    at = batch[f"{name}_positions"][0]
    # of sound that several documents show, the first of them pays for it
    tokens = at.new_tensor(frames.sum(1).tolist())
    starts = tokens.cumsum(0) - tokens
    first = at[starts] if places is None else _first_of(places[0], at, starts)
    return Clips(features.to(model.dtype), wave, frames, token_documents(batch)[first])


def _first_of(places: torch.Tensor, at: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    return torch.stack([at[(places == start).nonzero()[0, 0]] for start in starts])


def frame_counts(frames: int | torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
    """Return frames and labels of a batch, (2,); those of batches add up."""
    labels = batch["label_positions"].numel()
    return torch.tensor([float(frames), labels], device=batch["input_ids"].device)


def idle(model: Any) -> torch.Tensor | float:
    """Tie all that is trained beside the LLM into the graph with weight zero: DDP waits for it."""
    if not (model.training and torch.is_grad_enabled()):
        return 0.0
    return touched(model.encoders, model.projectors, model.heads)


class OfSound(Objective):
    """A loss by frame of codes; its mean over the step's frames is what a label costs.

    So a stage's loss is the mean error of a frame, whatever the packs and ranks.
    """

    runs_llm = False
    needs = ("codec",)
    rendering = Sounds()
    hears_codes: ClassVar[bool] = True
    """whether the codec must be trained before"""

    @classmethod
    def check(cls, model: Any) -> None:
        super().check(model)
        codec: CodecEncoder = model.encoders[model.codec]
        if codec.code_width is None:
            raise EntryError("the codec is one that makes its own sound, and is not trained here",
                             "objective")  # fmt: skip
        if cls.hears_codes and not codec.norm.weight.is_meta:
            check_started(codec)

    def step_counts(self, model: Any, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        return {COUNTS: self._counted(model, batch)}

    def _counted(self, model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        media = model.take_media(model.codec, dict(batch))
        return frame_counts(media[2][:, 0].sum() if media else 0, batch)

    def errors(self, model: Any, clips: Clips) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the error of each window, summed over its frames (W,), and sums of figures."""
        raise NotImplementedError

    def __call__(self, model: Any, batch: dict[str, Any], count: torch.Tensor) -> Loss:
        batch = dict(batch)
        counts = batch.pop(COUNTS, None)
        counts = self._counted(model, batch) if counts is None else counts
        ids, labels = batch["input_ids"], batch["label_positions"].numel()
        zero = torch.zeros((), device=ids.device) + idle(model)
        by_document = torch.zeros(int((batch["position_ids"] == 0).sum()), device=ids.device)
        clips = clips_of(model, batch)
        if clips is None:
            return Loss(zero, by_document, dict.fromkeys(self.figures, zero.detach()))
        errors, figures = self.errors(model, clips)
        share = counts[1] / counts[0].clamp(min=1)
        sums = {name: value.detach() * share for name, value in figures.items()}
        sums |= {name: value * labels for name, value in self.state(model).items()}
        by_document = by_document.index_add(0, clips.owner, (errors.detach() * share).float())
        return Loss(zero + errors.sum() * share / count, by_document, sums)

    def state(self, model: Any) -> dict[str, torch.Tensor]:
        """Return figures that are no sums over frames."""
        return {}


def check_started(codec: CodecEncoder) -> None:
    """Refuse a codec whose books hold nothing yet.

    Raises:
        EntryError: says which objective trains it.
    """
    if not codec.started:
        raise EntryError("the codec is not trained, so all sound would be the same code: train it "
                         "in a stage before, with objective codec", "objective")  # fmt: skip


@torch.no_grad()
def vectors_of(model: Any, clips: Clips) -> torch.Tensor:
    """Return what the codes of clips stand for, padded at their ends: (W, T, D)."""
    codec: CodecEncoder = model.encoders[model.codec]
    values = codec.vectors(clips.features, clips.code_frames)
    quantised = codec.quantiser.lookup(codec.quantiser.encode(values))
    return padded(quantised.to(values.dtype), clips.frames)
