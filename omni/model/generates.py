"""What `generate` of transformers needs to know of media among the tokens."""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F
from transformers import GenerationMixin, LogitsProcessorList
from transformers.generation.logits_process import SuppressTokensLogitsProcessor

from ..encoders import encoder_class, tensor_names
from ..projectors import item_lengths
from .encoded import PlaceholderError

if TYPE_CHECKING:
    from .config import OmniConfig


class _NoPlaceholders(SuppressTokensLogitsProcessor):
    """A class of its own, as `generate` keeps only one processor of each, the caller's."""


class _Processors(LogitsProcessorList):
    """Logits processors that look up scores of the ids of the prompt: placeholders have some too.

    They come after the LLM's own, and are minus infinity.
    """

    def __init__(self, processors: Iterable[Any] = (), ids: int = 0):
        super().__init__(processors)
        self.ids = ids  # how many there are

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        rows = scores.shape[1]
        if self.ids > rows:
            scores = F.pad(scores, (0, self.ids - rows), value=-torch.inf)
        if kwargs:
            return super().__call__(input_ids, scores, **kwargs)[:, :rows]
        for processor in self:  # to look up what else each takes costs more than most of them do
            scores = processor(input_ids, scores)
        return scores[:, :rows]


class Generates(GenerationMixin):
    """Media go with the prompt they stand in, to each of its beams, and are never an answer."""

    if TYPE_CHECKING:
        config: OmniConfig
        media_inputs: Any

    def end_with(self, ids: Sequence[int]) -> None:
        """Let `generate` stop at these tokens as well."""
        known = self.generation_config.eos_token_id
        known = known if isinstance(known, list) else [] if known is None else [known]
        ends = [*known, *(i for i in ids if i not in known)]
        self.generation_config.eos_token_id = ends if len(ends) != 1 else ends[0]

    def generate(self, inputs: torch.Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """Generate as transformers does.

        Raises:
            ValueError: padded prompts for an LLM that does not leave padding out.
        """
        self.check_padding(kwargs.get("attention_mask"))
        if not self.config.continues:
            kwargs["use_cache"] = False
        return super().generate(inputs, *args, **kwargs)  # type: ignore[misc]

    def check_padding(self, mask: torch.Tensor | None) -> None:
        """Refuse padded prompts, (B, T), for an LLM that does not leave padding out.

        Raises:
            ValueError: says how to ask it.
        """
        if not self.config.continues and mask is not None and not bool(mask.all()):
            raise ValueError(
                f"the LLM {self.config.text_config.model_type} answers otherwise where a "
                "prompt is padded: ask it one prompt at a time (a batch size of 1)"
            )

    def prepare_inputs_for_generation(
        self, input_ids: torch.Tensor, inputs_embeds: torch.Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Pass media with the prompt only; later steps find them in the cache.

        What continues a cache may begin after them, as the model that assists another does, or
        bring new ones.
        """
        media = {n: kwargs.pop(n) for n in self._prompted if n in kwargs}
        first = kwargs.get("is_first_iteration", False)
        inputs = super().prepare_inputs_for_generation(
            input_ids, inputs_embeds=inputs_embeds, **kwargs
        )
        ids = inputs.get("input_ids")
        if ids is None or ids.shape == input_ids.shape or (first and self._placed(ids)):
            return inputs | media
        return inputs

    @property
    def _prompted(self) -> list[str]:
        """Return the names of what comes with a prompt's tokens: media, or codes of them."""
        return [*self.media_inputs(), *(f"{name}_codes" for name in self.config.modalities)]

    @property
    def _placeholders(self) -> list[int]:
        return [modality["token_id"] for modality in self.config.modalities.values()]

    def _placed(self, ids: torch.Tensor) -> bool:
        """Tell whether there is a placeholder among ids."""
        return any(bool((ids == placeholder).any()) for placeholder in self._placeholders)

    def _validate_model_kwargs(self, model_kwargs: dict[str, Any]) -> None:
        """Let `generate` accept media, which the signature of `forward` cannot name."""
        known = self._prompted
        super()._validate_model_kwargs({k: v for k, v in model_kwargs.items() if k not in known})

    def _expand_inputs_for_generation(
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: torch.Tensor | None = None,
        **model_kwargs: Any,
    ) -> Any:
        """Repeat each row with its own media, for beams or several answers."""
        media = {n: model_kwargs.pop(n) for n in self.media_inputs() if n in model_kwargs}
        if expand_size > 1 and input_ids is not None:
            for name in self.config.modalities:
                media |= self._repeated(name, media, input_ids, expand_size)
        input_ids, model_kwargs = super()._expand_inputs_for_generation(
            expand_size, is_encoder_decoder, input_ids, **model_kwargs
        )
        return input_ids, model_kwargs | media

    def _repeated(
        self, name: str, media: dict[str, Any], input_ids: torch.Tensor, times: int
    ) -> dict[str, torch.Tensor]:
        """Return a modality's media tensors with the items of each row several times in turn."""
        modality = self.config.modalities[name]
        config, cls = modality["encoder"], encoder_class(modality["encoder"])
        names = tensor_names(self.config.modalities)[name]
        tensors = {i: media[n] for i, n in names.items() if media.get(n) is not None}
        if not tensors:
            return {}
        rows = (input_ids == modality["token_id"]).nonzero()[:, 0].tolist()
        starts = [0, *accumulate(item_lengths(modality, tensors))]
        if starts[-1] != len(rows):
            raise PlaceholderError(
                f"{len(rows)} {name} placeholders in input_ids for {starts[-1]} {name} features"
            )
        of: dict[int, list[int]] = {}
        for item, start in enumerate(starts[:-1]):
            of.setdefault(rows[start], []).append(item)
        order = [item for items in of.values() for item in items * times]
        alone = cls.split(config, *tensors.values())
        batch = cls.collate([dict(zip(cls.inputs, alone[i], strict=True)) for i in order])
        return {n: batch[i] for i, n in names.items()}

    def _get_logits_processor(self, generation_config: Any, *args: Any, **kwargs: Any) -> Any:
        """Rule out placeholders before all else."""
        processors = super()._get_logits_processor(generation_config, *args, **kwargs)
        if self._placeholders:
            device = kwargs.get("device") or "cpu"
            processors.insert(0, _NoPlaceholders(self._placeholders, device=device))
        return _Processors(processors, 1 + max(self._placeholders, default=-1))

    def _get_candidate_generator(self, *args: Any, **kwargs: Any) -> Any:
        """Let a guess that copies the prompt copy placeholders, to be ruled out."""
        generator = super()._get_candidate_generator(*args, **kwargs)
        if rows := getattr(generator, "vocab_size", None):
            generator.vocab_size = max(rows, 1 + max(self._placeholders, default=0))
        return generator
