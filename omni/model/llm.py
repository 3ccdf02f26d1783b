"""A text LLM of a folder: alone, or out of a model that sees images as well."""

from pathlib import Path
from typing import Any

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM

from ..weights.stored import check_loaded, unreported
from .attention import PACKED_SDPA


def load_llm(folder: Path) -> Any:
    """Load all of a text LLM, alone or in a model of images; transformers would make up the rest.

    Raises:
        ValueError: it lacks weights, or has some in another shape; or its positions have more axes
            than text has.
    """
    try:
        with unreported():
            found: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, output_loading_info=True,
                ignore_mismatched_sizes=True, **_within(folder),
            )  # fmt: skip
    except OSError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{folder}: its weights cannot be read: {reason}") from error
    language_model, info = found
    check_loaded(folder, f"the LLM {language_model.config.model_type}", info)
    return language_model


def llm_config(config: Any, folder: Path) -> Any:
    """Return the config of the LLM in a folder with that config: itself, or a part of it.

    Raises:
        ValueError: the LLM is none of its own.
    """
    text = config.get_text_config(decoder=True)
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or text is config:
        return config
    if type(text) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(
            f"{folder}: the LLM of a {config.model_type} is no causal LLM of its own (as where "
            "positions have several axes); name the text LLM it was made from as text, and this "
            "folder as the weights of encoder and projector"
        )
    text.tie_word_embeddings = config.tie_word_embeddings
    return text


def _within(folder: Path) -> dict[str, Any]:
    """Return how transformers finds the LLM where a folder holds an encoder of images as well."""
    config = AutoConfig.from_pretrained(folder)
    text = llm_config(config, folder)
    if text is config:
        return {}
    return {"config": text, "key_mapping": {
        r"^(?:model\.)?language_model\.(?!model\.|lm_head\.)": "model.",
        r"^language_model\.": "",
    }}  # fmt: skip


def packing(language_model: Any) -> Any:
    """Let an LLM that uses SDPA run packed documents one by one; other kernels stay as chosen."""
    if language_model.config._attn_implementation == "sdpa":
        language_model.set_attn_implementation(PACKED_SDPA)
    return language_model
