"""What vLLM's transformers backend asks of a processor: every medium by itself, and its place."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers.processing_utils import MultiModalData

from ..encoders import encoder_class, readers
from ..encoders.audio import RATE
from ..media.facts import FIELDS

FIRST = {"image": "pixel_values", "audio": "input_features"}
"""what the backend calls the first of the tensors that an encoder takes"""


class Offsets:
    """A processor of which media can be kept one by one, whatever stood beside them.

    With `return_text_replacement_offsets` a call returns, beside ids, for each text the list of
    its media, as `replacements` makes it, and the tensors of each medium in lists: what
    `OmniModel.get_image_features` and `get_audio_features` take.
    """

    if TYPE_CHECKING:
        modalities: dict[str, Any]
        media_lengths: Any

    @property
    def image_processor(self) -> Any:
        """Return what the backend reads of a processor of images; there may be none."""
        return SimpleNamespace(model_input_names=self._names("image"))

    @property
    def feature_extractor(self) -> Any:
        """Return what the backend reads of a processor of sounds; there may be none."""
        return SimpleNamespace(model_input_names=self._names("audio"), sampling_rate=RATE)

    def _names(self, medium: str) -> list[str]:
        """Return what the tensors of one kind of media are called, one by one.

        Raises:
            AttributeError: no modality reads it, so that `hasattr` says so.
        """
        for modality in readers(self.modalities, medium).values():
            return [FIRST[medium], *encoder_class(modality["encoder"]).inputs[1:]]
        raise AttributeError(f"no modality reads {medium}")

    def one_by_one(self, media: Sequence[Mapping[str, list]]) -> dict[str, list[torch.Tensor]]:
        """Return the tensors of the first reader of each kind of media, a list of one a medium.

        Args:
            media: of each text by modality, as `preprocess` makes them.
        """
        found: dict[str, list[torch.Tensor]] = {}
        for medium in FIRST:
            for name, modality in list(readers(self.modalities, medium).items())[:1]:
                items = [item for of in media for item in of.get(name, [])]
                inputs = encoder_class(modality["encoder"]).inputs
                for called, i in zip(self._names(medium), inputs if items else (), strict=False):
                    found[called] = [item[i] for item in items]
        return found

    def _get_num_multimodal_tokens(
        self, image_sizes: Sequence[Sequence[int]] | None = None, **others: Any
    ) -> MultiModalData:
        """Tell how many tokens images of (height, width) pixels become.

        `num_image_patches`, by which the backend cuts what `get_image_features` returns, are these
        tokens, too.
        """
        if image_sizes is None:
            return MultiModalData()
        facts = np.zeros(len(image_sizes), FIELDS)
        facts["height"], facts["width"] = np.array(image_sizes).reshape(-1, 2).T
        tokens = self.media_lengths("image", facts)[0].tolist()
        return MultiModalData(num_image_tokens=tokens, num_image_patches=tokens)


def joined(pieces: Sequence[str], put: Sequence[str]) -> str:
    """Join pieces of a text, every other of which is a marker that something stands in for."""
    return "".join(word for pair in zip(pieces[::2], [*put, ""], strict=True) for word in pair)


def replacements(pieces: Sequence[str], kinds: Sequence[str], put: Sequence[str]) -> list[dict]:
    """Return which text replaced each marker, and where, as ProcessorMixin does in transformers."""
    found, at, new = [], 0, 0
    for words, marker, kind, text in zip(pieces[::2], pieces[1::2], kinds, put, strict=False):
        at, new = at + len(words), new + len(words)
        found.append({
            "type": kind, "text": marker, "replacement": text,
            "span": (at, at + len(marker)), "new_span": (new, new + len(text)),
        })  # fmt: skip
        at, new = at + len(marker), new + len(text)
    return found
