"""Fit projected features to the LLM's own token embeddings, without running the LLM.

A projector's job is to make media look like text. So its tokens are scored against the rows of
the embedding table (cosine times `SCALE`), and the labelled answer is the target: as a bag of
words for an image, whose tokens have no reading order, and through CTC (Graves et al. 2006) for
audio, whose frames have one. A step costs an encoder pass and one product with the table, not
a pass through the LLM and back. Only assistant tokens are targets, as in `sft`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from omni.encoders import encoder_class
from omni.processing.processor import IGNORE_INDEX

from .base import Loss, Objective, token_documents

COUNTS = "align_counts"  # in a batch: `align_counts` of the whole step


@dataclass(frozen=True)
class AlignOptions:
    """How sharp the scores are, and what else counts."""

    scale: float = 20.0
    """of the cosine for bags: sharp enough to tell words apart, soft enough to start"""
    ctc_scale: float = 40.0
    """CTC needs a sharper one to leave the all-blank solution"""
    norm_weight: float = 0.1
    """keeps tokens as long as text embeddings, which the cosine does not see"""


class Align(Objective):
    """The alignment loss per label token, averaged like `sft` over the global batch.

    How often words occur, and how many media tokens there are, is counted over the batch, or
    over a whole step where it holds their `COUNTS`: then it does not matter how that is cut.
    """

    options_class = AlignOptions
    runs_llm = False

    def step_counts(self, model: Any, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        return {COUNTS: align_counts(model, batch)}

    def __call__(self, model: Any, batch: dict[str, Any], count: torch.Tensor) -> Loss:
        return _align(model, batch, count, self.options)


def _align(
    model: Any, batch: dict[str, torch.Tensor], label_count: torch.Tensor, options: AlignOptions
) -> Loss:
    batch = dict(batch)
    counts = batch.pop(COUNTS, None)
    counts = align_counts(model, batch) if counts is None else counts
    ids = batch["input_ids"][0]
    document, answers = _answers(batch)
    table, scale = model.get_input_embeddings().weight.detach(), model.text_scale()
    words, (documents, labelled, *media_tokens) = counts[: len(table)], counts[len(table) :]
    loss = torch.zeros((), device=ids.device)
    by_document = torch.zeros(len(answers), device=ids.device)
    for (name, spec), total in zip(model.config.modalities.items(), media_tokens, strict=True):
        cls = encoder_class(spec["encoder"])
        tokens = model.features(name, batch)
        if tokens is None:
            loss = loss + model.zero_touch(name)
            continue
        tokens = tokens.float()  # (N, D), all of the batch
        owner = document[ids == spec["token_id"]]  # (N,): the document of each token
        rows = F.normalize(table.float(), dim=1)
        present = owner.unique()
        if cls.media == "audio":
            fit = _ctc(tokens, owner, answers, rows, words, options.ctc_scale)  # (present,)
        else:
            fit = _bag_of_words(tokens, owner, answers, rows, words, documents, options.scale)
        by_document = by_document.index_add(0, present, fit.detach())
        length = tokens.norm(dim=1) / (table.norm(dim=1).mean() * scale)
        off = (length - 1).square()  # (N,)
        loss = loss + fit.sum()
        loss = loss + options.norm_weight * (off.sum() / total) * labelled
        each = options.norm_weight * off.detach() * labelled / total
        by_document = by_document.index_add(0, owner, each)
    return Loss(loss / label_count, by_document)


def align_counts(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Count what `align` weighs by; the counts of batches add up.

    Returns:
        (V + 2 + M,): documents with each word in their answer, documents, labels, and the media
        tokens of each modality.
    """
    _, answers = _answers(batch)
    ids = batch["input_ids"][0]
    words = torch.zeros(len(model.get_input_embeddings().weight), device=ids.device)
    for answer in answers:
        words[answer.unique()] += 1
    modalities = model.config.modalities.values()
    totals = [len(answers), sum(map(len, answers)),
              *(int((ids == spec["token_id"]).sum()) for spec in modalities)]  # fmt: skip
    return torch.cat([words, words.new_tensor(totals)])


def _answers(batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return each token's document, (T,), and each document's labels."""
    labels = batch["labels"][0]
    document = token_documents(batch)
    labelled = labels != IGNORE_INDEX
    return document, [labels[(document == d) & labelled] for d in range(document[-1] + 1)]


def _bag_of_words(
    tokens: torch.Tensor,
    owner: torch.Tensor,
    answers: list[torch.Tensor],
    table: torch.Tensor,
    frequency: torch.Tensor,
    documents: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Let each document's mean token predict its answer's words, rare words weighing most.

    A word counts log(documents / documents with it): what every answer says ("A", ".", the end
    of turn) is no evidence of what is in the picture. Where nothing tells an answer from the
    others, as with one document alone, all its words count alike.
    """
    present = owner.unique()
    mean = torch.stack([tokens[owner == d].mean(0) for d in present])
    scores = F.log_softmax(scale * F.normalize(mean, dim=1) @ table.T, dim=1)  # (docs, V)
    losses = []
    for row, d in enumerate(present.tolist()):
        words = answers[d].unique()
        weight = (documents / frequency[words]).log()
        if not weight.any():
            weight = torch.ones_like(weight)
        mean_score = (scores[row, words] * weight).sum() / weight.sum().clamp(min=1e-6)
        losses.append(-len(answers[d]) * mean_score)
    return torch.stack(losses)


def _ctc(
    tokens: torch.Tensor,
    owner: torch.Tensor,
    answers: list[torch.Tensor],
    table: torch.Tensor,
    frequency: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Let each document's frames spell its answer.

    The blank is the first row of the table that no answer uses, an end-of-text token in most.
    CTC itself sees the blank, the words of these answers, and all other words as one class that
    none of them uses: the same loss and gradient, without a copy of (N, V) for each of its steps.
    """
    present = owner.unique().tolist()
    targets = [answers[d] for d in present]
    spelt = torch.cat(targets).unique()
    classes = torch.cat([(frequency == 0).nonzero()[:1, 0], spelt])
    logits = scale * F.normalize(tokens, dim=1) @ table.T  # (N, V)
    scores = logits.index_select(1, classes) - logits.logsumexp(1, keepdim=True)  # (N, C)
    others = (1 - scores.exp().sum(1, keepdim=True)).clamp(min=1e-9).log()
    scores = torch.cat([scores, others], dim=1)
    frames = [scores[owner == d] for d in present]
    return F.ctc_loss(
        torch.nn.utils.rnn.pad_sequence(frames),  # (frames, docs, C + 1)
        1 + torch.searchsorted(spelt, torch.cat(targets)),
        torch.tensor([len(f) for f in frames]),
        torch.tensor([len(t) for t in targets]),
        blank=0, reduction="none", zero_infinity=True,
    )  # fmt: skip
