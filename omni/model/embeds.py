"""Text and media -> what the LLM reads: embeddings, with the features of media in their places."""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..encoders import codec_of, host_inputs, tensor_names
from ..encoders.ragged import Ragged
from ..features.cache import FeatureCache
from .encoded import PlaceholderError
from .spec import AS_WORDS

if TYPE_CHECKING:
    from .config import OmniConfig


class Embeds(PreTrainedModel):
    """A model that encodes its media, projects them, and scatters them among its text."""

    if TYPE_CHECKING:
        config: OmniConfig
        encoders: nn.ModuleDict
        projectors: nn.ModuleDict
        feature_cache: FeatureCache | None
        text_scale: Any

    def embed(self, input_ids: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """Look up text, encode media (taken out of `inputs`), scatter: (B, T) -> (B, T, D)."""
        masks = {n: input_ids == m["token_id"] for n, m in self.config.modalities.items()}
        text_ids = input_ids
        for mask in masks.values():
            text_ids = text_ids.masked_fill(mask, 0)  # placeholders have no row in the table
        embeds = self.get_input_embeddings()(text_ids)
        for name, mask in masks.items():
            where = inputs.pop(f"{name}_positions", None)
            where = mask.flatten().nonzero()[:, 0] if where is None else where.flatten()
            features = self.features(name, inputs)
            if features is None:
                self._check_count(name, len(where), 0)
                embeds = embeds + self.zero_touch(name)
                continue
            features = self.worded(name, features).to(embeds.dtype)
            self._check_count(name, len(where), len(features))
            embeds = embeds.flatten(0, 1).index_copy(0, where, features).view_as(embeds)
        return embeds

    def worded(self, name: str, tokens: torch.Tensor) -> torch.Tensor:
        """Return a modality's tokens (M, D) as the LLM reads them: mixtures, or as they are."""
        sharpness = self.config.modalities[name].get(AS_WORDS)
        return self.mixture(tokens, sharpness) if sharpness else tokens

    def mixture(self, tokens: torch.Tensor, sharpness: float) -> torch.Tensor:
        """Return tokens (M, D) as mixtures of the words that they are most like, (M, D).

        What the LLM reads then lies among its own embeddings, whatever the projector makes
        (Masry et al. 2025, AlignVLM). A word weighs softmax(sharpness * cosine), the score that
        the objective `align` trains. Costs two products with the table for each token.
        """
        table: torch.Tensor = self.get_input_embeddings().weight.detach()  # type: ignore[operator]
        table = table.to(tokens.dtype)
        cosines = F.normalize(tokens, dim=1) @ F.normalize(table, dim=1).T
        return (sharpness * cosines).softmax(1) @ table * self.text_scale()  # (M, V) @ (V, D)

    def features(self, name: str, inputs: dict[str, Any]) -> torch.Tensor | None:
        """Encode a modality's media, taken out of `inputs`: (M, D), one for each placeholder.

        Of a codec `NAME_codes` (M, books) will do, as `codes` makes them.
        """
        if (codes := inputs.pop(f"{name}_codes", None)) is not None:
            return self.projectors[name].embed(codes).sum(1)  # type: ignore[operator]
        media, places = self.take_media(name, inputs), inputs.pop(f"{name}_features", None)
        if media is None:
            return None
        features = self.encode(name, *media)
        return features if places is None else features.index_select(0, places.flatten())

    def codes(self, name: str, inputs: dict[str, Any]) -> torch.Tensor | None:
        """Make codes of a codec's media, taken out of `inputs`: (M, books), one a placeholder.

        Where there is no sound, there is None.
        """
        media, places = self.take_media(name, inputs), inputs.pop(f"{name}_features", None)
        if media is None:
            return None
        codes = self.heard(name, *media).values
        return codes if places is None else codes.index_select(0, places.flatten())

    def encode(self, name: str, *media: torch.Tensor) -> torch.Tensor:
        """Turn one modality's media tensors into LLM tokens, all items joined: (sum L, D).

        Args: see `heard`.
        """
        return self.projectors[name](self.heard(name, *media))

    def heard(self, name: str, *media: torch.Tensor) -> Ragged:
        """Run one modality's encoder.

        Args:
            name: of the modality.
            media: what its encoder takes, in the order of the encoder's `inputs`.
        """
        encoder: Any = self.encoders[name]
        trained = trains(encoder)
        media = tuple(
            t.to(self.dtype) if t.is_floating_point() and n not in encoder.host_inputs else t
            for n, t in zip(encoder.inputs, media, strict=True)
        )
        with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
            if self.feature_cache and not trained:
                return self.feature_cache(encoder, media)
            return encoder(*media)

    def zero_touch(self, name: str) -> torch.Tensor | float:
        """Tie an absent modality into the graph with weight zero, so that no rank waits for it."""
        if not (self.training and torch.is_grad_enabled()):
            return 0.0
        return touched(self.encoders[name], self.projectors[name])

    @property
    def codec(self) -> str:
        """Return the name of the modality that makes codes.

        Raises:
            ValueError: there is none.
        """
        if (name := codec_of(self.config.modalities)) is None:
            raise ValueError("the model has no codec")
        return name

    def _check_count(self, name: str, placeholders: int, features: int) -> None:
        if placeholders != features:
            raise PlaceholderError(
                f"{placeholders} {name} placeholders in input_ids for {features} {name} features: "
                "make both with OmniProcessor, and pass every tensor it returns, whole (with the "
                "Trainer of transformers: remove_unused_columns=False, and for an IterableDataset "
                "accelerator_config={'dispatch_batches': False})"
            )

    def media_inputs(self) -> list[str]:
        """Return the names of the media tensors that `forward` takes."""
        media = tensor_names(self.config.modalities).values()
        return [n for names in media for n in names.values()]

    def host_inputs(self) -> frozenset[str]:
        """Return those of them that the host reads, and waits for where they are not with it."""
        return host_inputs(self.config.modalities)

    def take_media(self, name: str, inputs: dict[str, Any]) -> list[torch.Tensor] | None:
        """Take a modality's media tensors out of `inputs`: what `encode` takes, or None.

        Raises:
            ValueError: some of them are missing.
        """
        names = tensor_names(self.config.modalities)[name].values()
        media = {n: inputs.pop(n, None) for n in names}
        missing = [n for n, tensor in media.items() if tensor is None]
        if missing and len(missing) < len(media):
            raise ValueError(f"{name} media come without {', '.join(missing)}: pass every tensor "
                             "that OmniProcessor returns")  # fmt: skip
        return None if missing else [*media.values()]


def trains(module: nn.Module) -> bool:
    """Tell whether any parameter does."""
    return any(p.requires_grad for p in module.parameters())


def touched(*modules: nn.Module) -> torch.Tensor | float:
    """Return zero, of which each parameter that trains gets a gradient."""
    trained = (p for module in modules for p in module.parameters() if p.requires_grad)
    return sum((0.0 * p.flatten()[0] for p in trained), 0.0)
