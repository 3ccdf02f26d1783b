"""Train a model to answer with text and with the codes of speech."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from omni.heads.depth import DepthHead
from omni.model.head import IGNORE_INDEX, router_loss, token_losses

from .base import Loss, Objective, document_sums, token_documents
from .speech import COUNTS, check_started, frame_counts, idle


@dataclass(frozen=True)
class SpeakOptions:
    """What counts how much."""

    text_weight: float = 1.0
    """of the cross-entropy of text, by label"""
    speech_weight: float = 1.0
    """of that of codes, by frame: the mean over its books"""


class Speak(Objective):
    """Cross-entropy of the text of answers, and of the codes of what they say, book by book.

    Labels of codes are (frames, books). The first book also learns where a clip ends; in that
    frame the others have nothing to say. Figures: `text` and `speech` are both losses, `first`
    the share of frames whose first code is the likeliest.
    """

    options_class = SpeakOptions
    figures = ("text", "speech", "first")
    needs = ("codec", "depth")
    runs_part = "depth"

    @classmethod
    def check(cls, model: Any) -> None:
        super().check(model)
        if model.device.type != "meta":
            check_started(model.encoders[model.codec])

    def step_counts(self, model: Any, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        return {COUNTS: frame_counts(answered(model, batch).sum(), batch)}

    def __call__(self, model: Any, batch: dict[str, Any], count: torch.Tensor) -> Loss:
        batch = dict(batch)
        counts = batch.pop(COUNTS, None)
        mine = answered(model, batch)  # (M,)
        counts = frame_counts(mine.sum(), batch) if counts is None else counts
        at, labels = batch[f"{model.codec}_positions"][0], batch.pop("labels")
        places = batch.pop("label_positions")[0]
        about = {"position_ids": batch["position_ids"], "label_positions": places[None]}
        codes = model.codes(model.codec, batch)
        if codes is not None:
            batch[f"{model.codec}_codes"] = codes
        decoded = model.decode(model.embed(batch.pop("input_ids"), batch), **batch)
        targets = labels.flatten().index_select(0, places + 1)
        text = token_losses(model.language_model, decoded, places, targets)
        hidden = decoded.last_hidden_state.flatten(0, 1)
        speech, first = self._frames(model, hidden, at[mine], codes[mine] if codes is not None
                                     else at.new_zeros(0, len(self._books(model))))  # fmt: skip
        share = counts[1] / counts[0].clamp(min=1)
        weighed = self.options.text_weight * text, self.options.speech_weight * speech * share
        total = (weighed[0].sum() + weighed[1].sum()) / count + idle(model)
        if (more := router_loss(model.language_model, decoded)) is not None:
            total = total + more * len(places) / count
        by_document = document_sums(weighed[0].detach(), about)
        owner = token_documents(about)[at[mine]]
        by_document = by_document.index_add(0, owner, weighed[1].detach())
        sums = {"text": text.detach().sum(), "speech": speech.detach().sum() * share,
                "first": first * share}  # fmt: skip
        return Loss(total, by_document, sums)

    @staticmethod
    def _books(model: Any) -> tuple[int, ...]:
        return model.encoders[model.codec].books

    def _frames(
        self, model: Any, hidden: torch.Tensor, at: torch.Tensor, codes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of each frame (n,), and how many have their first code right.

        Args:
            model: with a depth head.
            hidden: (T, D), of the row.
            at: (n,), where the frames stand; the position before predicts a frame.
            codes: (n, books)
        """
        head: DepthHead = model.heads[model.head_of("depth")]
        books, table = self._books(model), model.projectors[model.codec]
        scores = head(hidden.index_select(0, at - 1), table.embed(codes).to(hidden.dtype))
        is_end = codes[:, 0] == books[0]
        losses = torch.zeros(len(codes), device=hidden.device)
        for book, (found, size) in enumerate(zip(scores, books, strict=True)):
            labels = codes[:, book]
            if book:  # only the first book has an end to predict
                found, labels = found[:, :size], labels.masked_fill(is_end, IGNORE_INDEX)
            losses = losses + F.cross_entropy(
                found.float(), labels, reduction="none", ignore_index=IGNORE_INDEX
            )
        return losses / len(books), (scores[0].argmax(1) == codes[:, 0]).sum().float()


def answered(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Tell which frames of codes stand in answers: (M,).

    Their first has a label, the end of the text before it; see `OmniProcessor`.
    """
    at, labels = batch[f"{model.codec}_positions"][0], batch["labels"].flatten()
    if not len(at):
        return at > 0
    starts = F.pad(at[1:] != at[:-1] + 1, (1, 0), value=True)
    run = starts.cumsum(0) - 1
    return (labels[at[starts]] != IGNORE_INDEX).index_select(0, run)
