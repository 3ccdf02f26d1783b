"""The LM head where there is a label, some positions at a time."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

IGNORE_INDEX = -100
# Logits that are alive at once. A GPU wants long chunks: each adds a gradient to the whole head.
LOGITS = {"cpu": 1 << 25, "cuda": 1 << 27}


def find_labels(labels: torch.Tensor) -> torch.Tensor:
    """Positions, in (B * T), before a label of (B, T): (N,). Synchronises with the GPU."""
    following = F.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX)
    return (following != IGNORE_INDEX).flatten().nonzero()[:, 0]


def token_losses(
    language_model: Any, decoded: Any, where: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Return the cross-entropy at some positions: (N,), float32, differentiable.

    Where the logits of all of them would exceed `LOGITS`, they are made chunk by chunk, and once
    more in the backward pass, so that never more than a chunk exists. The logits are those of
    the LLM's own forward: soft caps, scales, and adapters on the head work as there.

    Args:
        language_model: a causal LM of transformers.
        decoded: what its decoder returned, with `last_hidden_state` (B, T, D).
        where: (N,), positions in the flattened (B * T).
        targets: (N,), the token that each of them is to predict.
    """

    def losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits.float(), targets, reduction="none")

    return by_chunks(language_model, decoded, where, losses, targets)


def by_chunks(
    language_model: Any,
    decoded: Any,
    where: torch.Tensor,
    function: Callable[..., torch.Tensor],
    *columns: torch.Tensor,
) -> torch.Tensor:
    """Return what a function makes of the logits at some positions, chunk by chunk if need be.

    Args:
        language_model: a causal LM of transformers.
        decoded: what its decoder returned.
        where: (N,), see `token_losses`.
        function: takes logits (n, V) and n rows of each of `columns`; returns (n, ...).
        columns: (N, ...) each.
    """
    hidden = decoded.last_hidden_state.flatten(0, 1).index_select(0, where)  # (N, D)
    vocabulary = language_model.config.get_text_config().vocab_size
    rows = max(1, LOGITS.get(hidden.device.type, LOGITS["cuda"]) // vocabulary)

    def of(hidden: torch.Tensor, *columns: torch.Tensor) -> torch.Tensor:
        return function(logits_at(language_model, decoded, hidden), *columns)

    if len(hidden) <= rows:
        return of(hidden, *columns)
    again: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
    chunks = zip(hidden.split(rows), *(column.split(rows) for column in columns), strict=True)
    parts: list[Any] = [checkpoint(of, *chunk, **again) for chunk in chunks]
    return torch.cat(parts)


def decoder_of(language_model: Any) -> Any:
    """Return the LLM without its head.

    Raises:
        ValueError: it has no such part.
    """
    found = language_model.get_decoder()
    if found is language_model:  # transformers did not find it
        found = getattr(language_model, "model", None)
    if found is None:
        raise ValueError(f"{type(language_model).__name__} has no decoder beside its head")
    return found


def logits_at(language_model: Any, decoded: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Run the LLM from the end of its decoder on: (N, D) -> (N, V)."""
    output = copy.copy(decoded)
    output.last_hidden_state = hidden[None]
    with _returning(decoder_of(language_model), output) as calls:
        logits = language_model(inputs_embeds=hidden[None], use_cache=False).logits[0]
    if not calls:
        raise NotImplementedError(
            f"{type(language_model).__name__} does not call what its get_decoder() returns, so "
            "its head cannot run by itself"
        )
    return logits


def router_loss(
    language_model: Any, decoded: Any, attention_mask: torch.Tensor | None = None
) -> torch.Tensor | None:
    """Return what an LLM with routers adds to its loss, times its coefficient; None: nothing.

    It does so where its config says `output_router_logits`. It is the loss of its own forward
    from the end of the decoder on, with one label that is ignored.
    """
    if decoded.get("router_logits") is None:
        return None
    output = copy.copy(decoded)
    output.last_hidden_state = hidden = decoded.last_hidden_state[:1, :1]
    nothing = torch.full((1, 1), IGNORE_INDEX, device=hidden.device)
    with _returning(decoder_of(language_model), output):
        return language_model(
            inputs_embeds=hidden, attention_mask=attention_mask, labels=nothing,
            num_items_in_batch=1, output_router_logits=True, use_cache=False,
        ).loss  # fmt: skip


@contextmanager
def _returning(module: torch.nn.Module, output: Any) -> Iterator[list[Any]]:
    """Let a module return `output` instead of running; yields a list of its calls."""
    before, calls = module.__dict__.get("forward"), []

    def forward(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return output

    module.forward = forward
    try:
        yield calls
    finally:
        del module.forward
        if before is not None:
            module.forward = before
