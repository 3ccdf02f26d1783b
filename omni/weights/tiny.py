"""A tiny random LLM with a byte-level tokenizer: the real code path in milliseconds."""

import re
from pathlib import Path
from typing import Any

from ..files.atomic import replacing
from .part import WeightsError

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


_NAME = re.compile(r"(?P<kind>[\w-]+?)(?:-(?P<width>\d+)x(?P<layers>\d+))?")


def write_tiny_llm(folder: Path, name: str = "llama") -> Path:
    """Write (once) a random model of a decoder type that transformers knows.

    The tokenizer has one token per byte, so every text has an encoding and nothing is downloaded.

    Args:
        folder: of the model.
        name: the type, of 2 layers and 32 wide; "llama-128x4" is 128 wide and has 4 layers.

    Raises:
        WeightsError: the width cannot be cut into four heads.
    """
    if (folder / "config.json").is_file():
        return folder
    found = _NAME.fullmatch(name)
    width, layers = (int(found[key] or 0) if found else 0 for key in ("width", "layers"))
    if found is None or (found["width"] and (not width or width % 8 or not layers)):
        raise WeightsError(f"part tiny:{name}: write tiny:llama, or with a width of a multiple of "
                           "8 and layers, such as tiny:llama-128x4")  # fmt: skip
    kind, width, layers = found["kind"], width or 32, layers or 2
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = _byte_tokenizer()
    config = AutoConfig.for_model(
        kind, vocab_size=260, hidden_size=width, intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=4096,
        bos_token_id=tokenizer.convert_tokens_to_ids("<|im_start|>"),
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )  # fmt: skip
    with replacing(folder, shared=True) as staged, torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(staged)
        tokenizer.save_pretrained(staged)
    return folder


def write_byte_tokenizer(folder: Path) -> None:
    """Write the tokenizer of such a model alone."""
    _byte_tokenizer().save_pretrained(folder)


def _byte_tokenizer() -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
