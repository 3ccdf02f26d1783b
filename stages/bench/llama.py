"""A small random Llama that knows the words of a world, for benches of reinforcement."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def write_model(
    folder: Path, texts: Iterable[str], width: int = 192, layers: int = 4, seed: int = 0,
    spread: float = 0.02,
) -> int:  # fmt: skip
    """Write a random Llama with the words of texts, digits and signs; return its parameters.

    Args:
        folder: of the model.
        texts: whose words its tokenizer knows.
        width: of its hidden states.
        layers: how many.
        seed: of its weights.
        spread: their deviation. At that of large models a narrow one attends to all alike for
            hundreds of steps; at width ** -0.5 it looks things up soon, and learns by heart soon.
    """
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=_words(texts), eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=3 * width,
        num_hidden_layers=layers, num_attention_heads=width // 32, max_position_embeddings=1024,
        bos_token_id=tokenizer.convert_tokens_to_ids("<|im_start|>"),
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True, initializer_range=spread,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    for part in (model, tokenizer):
        part.save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


def _words(texts: Iterable[str]) -> Any:
    """Make a tokenizer of the words of texts; every digit and sign is a token."""
    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.Split("[-+*/()=]", "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    return tokenizer
