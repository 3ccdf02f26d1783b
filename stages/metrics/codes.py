"""How many floating-point operations the parts that make codes, or sound of codes, need."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from omni.encoders import build_encoder
from omni.heads import build_head
from omni.heads.mel import BINS, FRAMES_PER_CODE

from ..objectives.speak import answered


class CodeFlops:
    """Counts what an objective of speech runs beside encoders, projectors and the LLM.

    Read off a run on torch's meta device, once for each number of frames.

    Args:
        model: what trains must be set already.
        part: see `Objective.runs_part`.
    """

    def __init__(self, model: Any, part: str):
        self.model, self.part = model, part
        self.name = model.codec if part == "codec" else model.head_of(part)
        self._known: dict[int, float] = {}

    def forward(self, tensors: Mapping[str, torch.Tensor]) -> float:
        """Return the operations of the forward pass of a batch."""
        return sum(self._of(frames) for frames in self._frames(tensors) if frames)

    @property
    def trained(self) -> torch.nn.Module:
        """Return the module, for what its backward pass costs."""
        if self.part == "codec":
            return self.model.encoders[self.name].decoder
        return self.model.heads[self.name]

    def _frames(self, tensors: Mapping[str, torch.Tensor]) -> list[int]:
        """Return the code frames of each run: those that are said, or of each window of sound."""
        if self.part == "depth":
            return [int(answered(self.model, tensors).sum())]
        media = self.model.take_media(self.model.codec, dict(tensors))
        return media[2][:, 0].tolist() if media else []

    def _of(self, frames: int) -> float:
        if frames not in self._known:
            counter = FlopCounterMode(display=False)
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
                self._run(frames)
            self._known[frames] = float(counter.get_total_flops())
        return self._known[frames]

    def _run(self, frames: int) -> None:
        def empty(*shape: int) -> torch.Tensor:
            return torch.empty(shape, device="meta")

        codec, sketch = self.model.encoders[self.model.codec], self._sketch
        vectors, mel = (1, frames, codec.code_width or 0), (1, frames * FRAMES_PER_CODE, BINS)
        if self.part == "codec":
            sketch.decoder(empty(*vectors))
        elif self.part == "depth":
            sketch(empty(frames, self._width), empty(frames, len(codec.books), self._width))
        elif self.part == "flow":
            prior = sketch.prior(empty(*vectors), empty(*mel))
            sketch.loss(prior, empty(*mel), empty(*mel), empty(1), empty(1))
        else:  # making waves of spectra is no work of nets
            sketch.net(empty(*mel))

    @property
    def _width(self) -> int:
        return self.model.get_input_embeddings().weight.shape[1]

    @cached_property
    def _sketch(self) -> Any:
        codec = self.model.encoders[self.model.codec]
        given = {"books": codec.books, "width": self._width, "code_width": codec.code_width}
        with torch.device("meta"):
            if self.part == "codec":
                return build_encoder(self.model.config.modalities[self.name]["encoder"])
            return build_head(self.model.config.heads[self.name], given)
