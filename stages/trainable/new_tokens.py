"""Words for the vocabulary, whose rows of the embedding table may be trained alone.

Like adapters the rows exist beside the table while a stage trains (PEFT's trainable tokens), so
the table itself is frozen and proven so; the checkpoint has them in their places.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from omni.entry import EntryError

PATTERN = "new_tokens"  # in `trainable`
NAME = "default"


def add_tokens(model: Any, processor: Any, tokens: Sequence[str]) -> None:
    """Give each token an id and a row; a new one's is the mean of all, a known one's stays.

    Raises:
        EntryError: the tokenizer cannot take one.
    """
    tokenizer, language_model = processor.tokenizer, model.language_model
    known = tokenizer.get_vocab()
    tokenizer.add_tokens(list(tokens))
    for token in tokens:
        if tokenizer.convert_tokens_to_ids(token) is None:
            raise EntryError(f"new_tokens: {token!r} cannot be a token", "new_tokens")
    fresh = [tokenizer.convert_tokens_to_ids(token) for token in tokens if token not in known]
    if not fresh:
        return
    rows = model.get_input_embeddings().num_embeddings
    if needed := max(0, 1 + max(fresh) - rows):  # also for placeholders in between, unused
        language_model.resize_token_embeddings(rows + needed, mean_resizing=False)
        model.config.text_config.vocab_size = rows + needed
    new = [*fresh, *range(rows, rows + needed)]
    for table in (language_model.get_input_embeddings(), language_model.get_output_embeddings()):
        with torch.no_grad():
            table.weight[new] = table.weight[:rows].mean(0)


def free_rows(model: Any, ids: Sequence[int]) -> str:
    """Put trainable rows for some ids beside the table, and the head's; return their pattern."""
    from peft import TrainableTokensConfig, inject_adapter_in_model

    language_model = model.language_model
    tables = [language_model.get_input_embeddings(), language_model.get_output_embeddings()]
    if tables[0].weight is tables[1].weight:
        tables.pop()  # PEFT finds what is tied
    names = [name for name, module in language_model.named_modules() if module in tables]
    config = TrainableTokensConfig(token_indices=sorted(ids), target_modules=names)
    with warnings.catch_warnings(action="ignore"):  # of tied tables, which this adapter does tie
        inject_adapter_in_model(config, language_model, NAME)
    return "*.trainable_tokens_delta.*"


def freed(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the tables with trainable rows beside them, by their names."""
    for name, module in model.named_modules():
        if hasattr(module, "trainable_tokens_delta") and hasattr(module, "base_layer"):
            yield name, module


def put_back(model: nn.Module, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return whole tensors by name with trained rows in their tables; what is tied stays so."""
    plain = {name: w for name, w in weights.items() if ".trainable_tokens_" not in name}
    done: dict[int, torch.Tensor] = {}
    for name, layer in freed(model):
        base = plain.pop(f"{name}.base_layer.weight")
        if id(base) not in done:
            rows = weights[f"{name}.trainable_tokens_delta.{NAME}"].to(base.dtype)
            at = torch.tensor(layer.token_indices[NAME], device=base.device)
            done[id(base)] = base.index_copy(0, at, rows)
        plain[f"{name}.weight"] = done[id(base)]
        if (bias := f"{name}.base_layer.bias") in plain:
            plain[f"{name}.bias"] = plain.pop(bias)
    return plain
