"""Log-probabilities of answers that a model drew itself, as it drew them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from .head import by_chunks, router_loss


class Kept(NamedTuple):
    """What `top_p` left to draw each label from: ids (S,), and which label each is of, (S,)."""

    ids: torch.Tensor
    labels: torch.Tensor


class Scores(NamedTuple):
    """Of the labels of a packed row, (N,) each."""

    logps: torch.Tensor
    """of each label in the distribution that it is drawn from, in nats; with a gradient"""
    entropies: torch.Tensor
    """of these distributions, in nats; without"""
    states: torch.Tensor
    """(T, D): what the LLM's decoder returned at each position of the row"""
    aux_loss: torch.Tensor | None
    """of an LLM with routers, see `router_loss`"""


def answer_scores(
    model: Any,
    batch: Mapping[str, torch.Tensor],
    temperature: torch.Tensor,
    kept: Kept | None = None,
) -> Scores:
    """Score the labels of a packed row in the distributions that they were sampled from.

    Probabilities are over all tokens but placeholders, which no answer has, or over those that
    `kept` names, as they were renormalised when the label was drawn: scored over all, every ratio
    would be off by the mass left out.

    Args:
        model: an omni model.
        batch: what `OmniProcessor.pack` returns, and nothing else.
        temperature: (N,), above 0.
        kept: of labels that were drawn from a part of the vocabulary, all of them.
    """
    labels, where = batch["labels"].flatten(), batch["label_positions"].flatten()
    decoded = _decoded(model, batch)
    placeholders = [modality["token_id"] for modality in model.config.modalities.values()]
    targets = labels.index_select(0, where + 1)  # each position predicts the token after it

    def score(
        logits: torch.Tensor, targets: torch.Tensor, temperature: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        scaled = logits.float() / temperature[:, None]
        ruled_out = [i for i in placeholders if i < scaled.shape[1]]
        if ruled_out:
            scaled = scaled.index_fill(1, torch.tensor(ruled_out, device=rows.device), -torch.inf)
        if kept is not None:
            scaled = scaled.masked_fill(~_allowed(kept, rows, scaled.shape), -torch.inf)
        logps = scaled.log_softmax(-1)
        with torch.no_grad():
            entropies = -(logps.exp() * logps.clamp(min=-1e4)).sum(-1)
        return torch.stack([logps.gather(1, targets[:, None])[:, 0], entropies], 1)

    rows = torch.arange(len(where), device=where.device)
    found = by_chunks(model.language_model, decoded, where, score, targets, temperature, rows)
    aux_loss = router_loss(model.language_model, decoded)
    states = decoded.last_hidden_state.flatten(0, 1)
    return Scores(found[:, 0], found[:, 1].detach(), states, aux_loss)


def row_states(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return what the LLM's decoder makes of each position of a packed row: (T, D)."""
    return _decoded(model, batch).last_hidden_state.flatten(0, 1)


def _decoded(model: Any, batch: Mapping[str, torch.Tensor]) -> Any:
    batch = {n: v for n, v in batch.items() if n not in ("labels", "label_positions")}
    positions = batch.pop("position_ids")
    embeds = model.embed(batch.pop("input_ids"), batch)
    return model.decode(embeds, None, positions, **batch)


def _allowed(kept: Kept, rows: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Return which tokens may follow at some consecutive rows: (n, V)."""
    allowed = torch.zeros(shape, dtype=torch.bool, device=rows.device)
    if len(rows):
        mine = (kept.labels >= rows[0]) & (kept.labels <= rows[-1])
        allowed[kept.labels[mine] - rows[0], kept.ids[mine].long()] = True
    return allowed
