"""The model without its LM head: what AutoModel makes, and what vLLM's transformers backend runs.

That backend keeps the KV cache and the head itself. It asks for the features of one kind of media
by `get_image_features` or `get_audio_features`, and hands back embeddings that have them in place.
"""

from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.auto import modeling_auto

from ..encoders import encoder_class, readers
from .config import OmniConfig
from .forward import OmniForConditionalGeneration


class OmniModel(OmniForConditionalGeneration):
    """The same parts under the same names, but for the LM head and what makes speech.

    `forward` takes what the whole model takes, and returns its decoder's output.
    """

    _keys_to_ignore_on_load_unexpected = [r"^heads\."]  # noqa: RUF012

    def _build_llm(self, config: OmniConfig) -> Any:
        language_model = super()._build_llm(config)
        language_model.set_output_embeddings(nn.Identity())
        language_model._tied_weights_keys = None  # there is nothing left to be tied
        language_model.all_tied_weights_keys = {}
        return language_model

    def _build_head(self, name: str, spec: dict[str, Any]) -> nn.Module:
        return nn.Identity()

    def get_input_embeddings(self) -> nn.Module:
        """Return what looks up text: placeholders, which have no row, get any other."""
        return _InTable(super().get_input_embeddings())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.headless(*args, **kwargs)

    def get_encoder(self, modality: str | None = None) -> Any:
        """Return the encoder that reads "image" or "audio".

        Raises:
            ValueError: there is none.
        """
        return self.encoders[self._reader(modality or "image")]

    def get_image_features(self, pixel_values: Any, **kwargs: Any) -> Any:
        """Encode and project images; see `_features_of`."""
        return self._features_of("image", pixel_values, kwargs)

    def get_audio_features(self, input_features: Any, **kwargs: Any) -> Any:
        """Encode and project sounds; see `_features_of`."""
        return self._features_of("audio", input_features, kwargs)

    def _features_of(self, medium: str, first: Any, others: dict[str, Any]) -> Any:
        """Return, as `pooler_output`, the tokens (M, D) of several media, joined.

        Args:
            medium: "image" or "audio".
            first: the first of the encoder's `inputs` of each medium, as `preprocess` makes it:
                a list, or a tensor of one more dimension.
            others: all else that the encoder takes, likewise, by its names.
        """
        name = self._reader(medium)
        encoder: Any = self.encoders[name]
        given = dict(zip(encoder.inputs, (first, *(others[n] for n in encoder.inputs[1:])),
                         strict=True))  # fmt: skip
        media = [
            dict(zip(given, values, strict=True)) for values in zip(*given.values(), strict=True)
        ]
        inputs = encoder_class(encoder.spec).collate(media)
        hosted = {n: t.cpu() if n in encoder.host_inputs else t for n, t in inputs.items()}
        tokens = self.worded(name, self.encode(name, *hosted.values()))
        return BaseModelOutputWithPooling(pooler_output=tokens)  # type: ignore[arg-type]

    def _reader(self, medium: str) -> str:
        """Return the first modality that reads a kind of media."""
        for name in readers(self.config.modalities, medium):
            return name
        raise ValueError(f"the model has no encoder of {medium}")


class _InTable(nn.Module):
    """An embedding that takes ids without a row for the first one."""

    def __init__(self, table: nn.Module):
        super().__init__()
        self.table = table

    @property
    def weight(self) -> torch.Tensor:
        return self.table.weight  # type: ignore[return-value]

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table(ids.masked_fill(ids >= len(self.weight), 0))


modeling_auto.AutoModel.register(OmniConfig, OmniModel)
