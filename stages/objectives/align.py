"""Fit projected features to the LLM's own token embeddings, without running the LLM.

A projector's job is to make media look like text. So its tokens are scored against the rows of
the embedding table (cosine times `SCALE`), and the labelled answer is the target: as a bag of
words for an image, whose tokens have no reading order, and through CTC (Graves et al. 2006) for
audio, whose frames have one. A step costs an encoder pass and one product with the table, not
a pass through the LLM and back. Only assistant tokens are targets, as in `sft`.
"""

from typing import Any

import torch
from torch.nn import functional as F

from omni.encoders import encoder_class
from omni.processor import IGNORE_INDEX

SCALE = 20.0  # of the cosine for bags: sharp enough to tell words apart, soft enough to start
CTC_SCALE = 40.0  # CTC needs a sharper one to leave the all-blank solution
NORM_WEIGHT = 0.1  # keeps tokens as long as text embeddings, which the cosine does not see


def align(
    model: Any, batch: dict[str, torch.Tensor], label_count: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the alignment loss per label token, averaged like `sft` over the global batch."""
    batch = dict(batch)
    ids, labels = batch["input_ids"][0], batch["labels"][0]
    document = (batch["position_ids"][0] == 0).cumsum(0) - 1  # (T,)
    answers = [labels[(document == d) & (labels != IGNORE_INDEX)] for d in range(document[-1] + 1)]
    table, scale = model.get_input_embeddings().weight.detach(), model.text_scale()
    loss = torch.zeros((), device=ids.device)
    by_document = torch.zeros(len(answers), device=ids.device)
    for name, spec in model.config.modalities.items():
        cls = encoder_class(spec["encoder"])
        media = [batch.pop(n, None) for n in cls.inputs]
        if media[0] is None:
            loss = loss + model.anchor(name)
            continue
        tokens = model.encode(name, *media).float()  # (N, D), all of the batch
        owner = document[ids == spec["token_id"]]  # (N,): the document of each token
        objective = _ctc if cls.media == "audio" else _bag_of_words
        present = owner.unique()
        fit = objective(tokens, owner, answers, F.normalize(table.float(), dim=1))  # (present,)
        by_document = by_document.index_add(0, present, fit.detach())
        loss = loss + fit.sum()
        length = tokens.norm(dim=1) / (table.norm(dim=1).mean() * scale)
        labelled = sum(len(answer) for answer in answers)
        off = (length - 1).square()  # (N,)
        loss = loss + NORM_WEIGHT * off.mean() * labelled
        each = NORM_WEIGHT * off.detach() * labelled / len(off)
        by_document = by_document.index_add(0, owner, each)
    return loss / label_count, by_document


def _bag_of_words(
    tokens: torch.Tensor, owner: torch.Tensor, answers: list[torch.Tensor], table: torch.Tensor
) -> torch.Tensor:
    """Let each document's mean token predict its answer's words, rare words weighing most.

    A word counts log(documents / documents with it) within the batch: what every answer says
    ("A", ".", the end of turn) is no evidence of what is in the picture.
    """
    count = len(answers)
    frequency = torch.zeros(len(table), device=table.device)
    for answer in answers:
        frequency[answer.unique()] += 1
    present = owner.unique()
    mean = torch.stack([tokens[owner == d].mean(0) for d in present])
    scores = F.log_softmax(SCALE * F.normalize(mean, dim=1) @ table.T, dim=1)  # (docs, V)
    losses = []
    for row, d in enumerate(present.tolist()):
        words = answers[d].unique()
        weight = (count / frequency[words]).log()
        mean_score = (scores[row, words] * weight).sum() / weight.sum().clamp(min=1e-6)
        losses.append(-len(answers[d]) * mean_score)
    return torch.stack(losses)


def _ctc(
    tokens: torch.Tensor, owner: torch.Tensor, answers: list[torch.Tensor], table: torch.Tensor
) -> torch.Tensor:
    """Let each document's frames spell its answer.

    The blank is the first row of the table that no answer uses, an end-of-text token in most.
    """
    present = owner.unique().tolist()
    scores = F.log_softmax(CTC_SCALE * F.normalize(tokens, dim=1) @ table.T, dim=1)  # (N, V)
    frames = [scores[owner == d] for d in present]
    targets = [answers[d] for d in present]
    used = set(torch.cat(targets).tolist())
    blank = next(row for row in range(len(table)) if row not in used)
    return F.ctc_loss(
        torch.nn.utils.rnn.pad_sequence(frames),  # (frames, docs, V)
        torch.cat(targets),
        torch.tensor([len(f) for f in frames]),
        torch.tensor([len(t) for t in targets]),
        blank=blank, reduction="none", zero_infinity=True,
    )  # fmt: skip
