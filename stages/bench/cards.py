"""A reduced game of cards and a small model with words for it, to learn it in minutes on a CPU."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

WORLD: dict[str, Any] = {"kind": "generalpoints", "answer": "formula", "cards": 4, "low": 1,
                         "high": 6, "target": 12, "heldout": 0.25}  # fmt: skip
TRAIN, HELDOUT = WORLD | {"split": "train"}, WORLD | {"split": "heldout"}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ASKED = 64  # prompts at once


def write_shards(folder: Path, count: int) -> Path:
    """Write hands that training may see, with the solver's answers."""
    from data_shards.environments.source import WORLDS
    from data_shards.shards.write import write_shards as write
    from data_shards.sources.base import Build

    options = {name: value for name, value in WORLD.items() if name not in ("kind", "heldout")}
    made: Any = WORLDS["generalpoints"]
    build = Build(seed=0, heldout=WORLD["heldout"])
    write(made(count=count, **options).generate(build), folder)
    return folder


def write_model(folder: Path, width: int = 192, layers: int = 4) -> int:
    """Write a random Llama whose tokens are words, digits and signs; return its parameters."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=_words(), eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=3 * width,
        num_hidden_layers=layers, num_attention_heads=width // 32, max_position_embeddings=512,
        bos_token_id=tokenizer.convert_tokens_to_ids("<|im_start|>"),
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for part in (model, tokenizer):
        part.save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


def _words() -> Any:
    """Make a tokenizer of the words of the game's prompts; every digit and sign is a token."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    from data_shards.environments import make_environment

    world = make_environment(TRAIN)
    states = [world.state(seed) for seed in range(64)]
    texts = [part["text"] for state in states
             for message in world.prompt(state)[0] for part in message["content"]]  # fmt: skip
    tokenizer = Tokenizer(models.BPE())
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


def solved(checkpoint: Path, world: Mapping[str, Any], count: int) -> dict[str, list[list[float]]]:
    """Answer so many prompts greedily: hand -> one (right, 1) for each of its prompts.

    The hand is the unit that is resampled: its orders are no different questions.
    """
    from data_shards.environments import make_environment
    from omni.generation.answer import answer
    from omni.generation.settings import Generation
    from omni.load import load

    model, processor = load(checkpoint)
    environment, found = make_environment(world), {}
    states = [environment.state(seed) for seed in range(10**6, 10**6 + count)]
    for some in _chunks(states):
        asked = [environment.prompt(state)[0] for state in some]
        said = answer(model, processor, asked, Generation(max_new_tokens=24))
        for state, text in zip(some, said, strict=True):
            hit = float(environment.verify(state, text).success)
            found.setdefault(" ".join(sorted(state["cards"])), []).append([hit, 1.0])
    return {hand: [np.sum(pairs, 0).tolist()] for hand, pairs in found.items()}


def _chunks(states: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(states), ASKED):
        yield states[first : first + ASKED]


def permuted(completions: Any, seed: Sequence[int], **columns: Any) -> list[float]:
    """Pay the answers of a group what others of it earn, drawn at random: a control."""
    from data_shards.environments import make_environment

    environment = make_environment(TRAIN)
    state = environment.state(seed[0])
    texts = [said[0]["content"] for said in completions]
    paid = [environment.verify(state, text).reward for text in texts]
    rng = np.random.default_rng([seed[0], len(texts)])
    return [paid[n] for n in rng.permutation(len(paid))]
