"""How far the LLM's answers to text are from what they were."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from omni.model.head import by_chunks, logits_at

from .base import token_documents


class TextLabels(NamedTuple):
    """Where the documents without media are in a packed row."""

    tokens: torch.Tensor
    """(T,), whether each token is of one"""
    labels: torch.Tensor
    """(N,), whether each label is"""


def text_labels(model: Any, batch: Mapping[str, torch.Tensor]) -> TextLabels:
    """Find the documents that hold no placeholder of the model."""
    ids, document = batch["input_ids"][0], token_documents(batch)
    medium = torch.zeros_like(ids, dtype=torch.bool)
    for modality in model.config.modalities.values():
        medium |= ids == modality["token_id"]
    shown = torch.zeros_like(medium).index_put((document[medium],), medium.new_ones(()))
    tokens = ~shown[document]
    return TextLabels(tokens, tokens[batch["label_positions"][0]])


def divergence_from(
    earlier: Any, model: Any, decoded: Any, batch: Mapping[str, torch.Tensor], text: TextLabels
) -> torch.Tensor:
    """Return KL(earlier, model) before each text label, (n,), in nats, over the whole vocabulary.

    Li and Hoiem 2016, "Learning without Forgetting", with the answers that are there as contexts.
    `decoded` is what the model's decoder returned for the row; the earlier model reads its text
    alone.
    """
    where = batch["label_positions"][0][text.labels]
    with torch.no_grad():
        ids, positions = (batch[n][:, text.tokens] for n in ("input_ids", "position_ids"))
        read = earlier.decode(earlier.embed(ids, {}), None, positions)
        place = text.tokens.cumsum(0)[where] - 1
        hidden = read.last_hidden_state[0].index_select(0, place)

    def score(logits: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            before = logits_at(earlier.language_model, read, hidden).float().log_softmax(-1)
        return F.kl_div(logits.float().log_softmax(-1), before, reduction="none",
                        log_target=True).sum(-1)  # fmt: skip

    return by_chunks(model.language_model, decoded, where, score, hidden)
