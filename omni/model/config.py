"""OmniConfig: a text LLM's config plus a dictionary of modalities."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from transformers import AutoConfig, PreTrainedConfig

from .auto import MODELS, SavesCode, auto_map, register_classes


class OmniConfig(SavesCode, PreTrainedConfig):
    """What is needed to rebuild the model without any of its original parts.

    `modalities` maps a name ("vision", "audio") to
    `{"encoder": {"kind": ..., ...}, "projector": {"kind": ..., ...}, "token_id": int}`;
    the encoder and projector entries are the keyword arguments of the classes that
    `ENCODERS` and `PROJECTORS` hold under `kind`; `as_words`, where it is there, is the sharpness
    with which its tokens become mixtures of words. `parts` records where every pretrained part
    and every data set came from, with its licence. `heads` maps names to what makes speech,
    `{"kind": ..., ...}` as `HEADS` holds them under `kind`. `isolates` is False for an LLM that
    does not keep the documents of a packed row apart, which then run one by one. `continues` is
    False for one that must be asked a prompt at a time, and runs all of it again for every token.
    """

    model_type = "omni"
    # transformers reads a class attribute
    sub_configs = {"text_config": AutoConfig}  # type: ignore[assignment] # noqa: RUF012

    def __init__(
        self,
        text_config: PreTrainedConfig | dict[str, Any] | None = None,
        modalities: dict[str, dict[str, Any]] | None = None,
        parts: dict[str, dict[str, Any]] | None = None,
        isolates: bool = True,
        heads: dict[str, dict[str, Any]] | None = None,
        continues: bool = True,
        **kwargs: Any,
    ):
        register_classes()
        if text_config is None:  # transformers builds an empty config to find its defaults
            text_config = {"model_type": "llama"}
        if isinstance(text_config, dict):
            text_config = AutoConfig.for_model(**text_config)
        self.text_config = text_config
        self.modalities = modalities or {}
        self.parts = parts or {}
        self.isolates = isolates
        self.heads = heads or {}
        self.continues = continues
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            kwargs.setdefault(name, getattr(text_config, name, None))
        kwargs.setdefault("tie_word_embeddings", getattr(text_config, "tie_word_embeddings", False))
        super().__init__(**kwargs)
        self.auto_map = {
            **auto_map("AutoConfig", of="OmniConfig"),
            **auto_map("AutoModel", of="OmniModel"),
            **auto_map(*MODELS, of="OmniForConditionalGeneration"),
            **auto_map("AutoProcessor", of="OmniProcessor"),
        }

    @property
    def audio_config(self) -> Any:
        """Return what vLLM's transformers backend reads: the tokens of the longest sound.

        Raises:
            AttributeError: no modality reads sound, so that `hasattr` says so.
        """
        from ..encoders import encoder_class, readers
        from ..encoders.audio import RATE
        from ..media.facts import FIELDS
        from ..media.limits import LIMITS
        from ..projectors import token_counts

        for modality in readers(self.modalities, "audio").values():
            encoder = modality["encoder"]
            facts = np.zeros(1, FIELDS)
            facts["rate"], facts["count"] = RATE, RATE * LIMITS.max_seconds
            _, grids = encoder_class(encoder).grids_of(encoder, facts)
            tokens = int(token_counts(modality["projector"], grids).sum())
            return SimpleNamespace(max_source_positions=tokens)
        raise AttributeError("no modality reads audio")


AutoConfig.register("omni", OmniConfig)
