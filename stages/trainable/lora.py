"""Low-rank adapters (Hu et al. 2021) beside linear layers of any part, through PEFT.

They exist while a stage trains. Its checkpoint has them merged, W + alpha / r * B A, so it is as
plain as any; `adapter/` beside the weights holds them by themselves, as PEFT saves them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..recipe.rule import Lora
from ..recipe.schema import StageConfig
from .new_tokens import PATTERN, free_rows, put_back
from .patterns import PatternError, matches, no_match

NAME = "default"  # of the one adapter, as PEFT calls it where it is not told


def adapt(model: Any, stage: StageConfig, processor: Any) -> dict[str, Any]:
    """Add a stage's adapters, if it has any; return what trains, in place of `stage.trainable`.

    So it does with the rows of its new tokens, where they are to be trained alone.

    The layer that makes the logits is left alone: most models share it with the embedding.

    Raises:
        PatternError: a pattern of `lora` matches no linear layer, or its adapters no pattern
            that gives them a learning rate.
    """
    patterns = dict(stage.trainable)
    if stage.new_tokens and PATTERN in patterns:
        ids = processor.tokenizer.convert_tokens_to_ids(stage.new_tokens)
        rows = {free_rows(model, ids): patterns.pop(PATTERN)}
        patterns |= {"*.base_layer.*": 0.0} | rows
    if not stage.lora:
        return patterns
    rules = {pattern: Lora(**value) for pattern, value in stage.lora.items()}
    chosen: dict[str, Lora] = {}
    head = model.get_output_embeddings()
    heads = (head, getattr(head, "base_layer", None))  # below the rows of new tokens
    linear = [name for name, module in model.named_modules()
              if isinstance(module, nn.Linear) and module not in heads]  # fmt: skip
    for pattern, rule in rules.items():
        found = [name for name in linear if matches(pattern, f"{name}.weight")]
        if not found:
            raise no_match("lora", pattern, linear, "linear layer")
        chosen |= dict.fromkeys(found, rule)
    _inject(model, chosen)
    patterns |= {"*.base_layer.*": 0.0}
    for pattern, rule in rules.items():
        if rule.lr is not None:
            given = {k: v for k, v in stage.lora[pattern].items()
                     if k in ("lr", "weight_decay", "warmup")}  # fmt: skip
            patterns[f"{pattern}.*lora_[AB].*"] = given
        elif not all(any(matches(p, f"{name}.lora_A.{NAME}.weight") for p in stage.trainable)
                     for name, of in chosen.items() if of is rule):  # fmt: skip
            raise PatternError(
                f"lora pattern {pattern!r}: give it lr, or name it in trainable", "lora", pattern
            )
    return patterns


def _inject(model: Any, chosen: dict[str, Lora]) -> None:
    """Put an adapter beside each layer; B is zero, so nothing changes yet."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        target_modules=list(chosen),
        rank_pattern={name: int(rule.r) for name, rule in chosen.items()},
        alpha_pattern={name: rule.alpha for name, rule in chosen.items()},
    )
    inject_adapter_in_model(config, model, NAME)
    for name, layer in adapted(model):
        if rate := chosen[name].dropout:
            layer.lora_dropout[NAME] = nn.Dropout(rate)


def adapted(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the layers with an adapter, by their names."""
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and hasattr(module, "base_layer"):
            yield name, module


def merged(model: nn.Module, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a model's whole tensors by name as if there had never been an adapter."""
    plain = {name: w for name, w in put_back(model, weights).items() if ".lora_" not in name}
    for name, layer in adapted(model):
        a, b = (weights[f"{name}.lora_{x}.{NAME}.weight"] for x in "AB")  # (r, in), (out, r)
        for key in [key for key in plain if key.startswith(f"{name}.base_layer.")]:
            plain[key.replace(".base_layer", "")] = plain.pop(key)
        base = plain[f"{name}.weight"]
        plain[f"{name}.weight"] = base + (layer.scaling[NAME] * (b @ a)).to(base.dtype)
    return plain


def save_adapters(model: Any, weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Write `folder/adapter`, which `peft.PeftModel.from_pretrained` loads, if there are any."""
    from safetensors.torch import save_file

    if not any(adapted(model)):
        return
    model.peft_config[NAME].save_pretrained(folder / "adapter")
    own = {f"base_model.model.{name.replace(f'.{NAME}.', '.')}": w.contiguous().cpu()
           for name, w in weights.items() if ".lora_" in name}  # fmt: skip
    save_file(own, folder / "adapter" / "adapter_model.safetensors", {"format": "pt"})
