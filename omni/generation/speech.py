"""Answers that are spoken: text -> codes, frame by frame; sound of codes is in `sound`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ..heads.depth import DepthHead
from ..processing.messages import Message

if TYPE_CHECKING:
    from ..model.forward import OmniForConditionalGeneration
    from ..processing.processor import Encoded, OmniProcessor


class SpeechError(ValueError):
    """What cannot be said, and why."""


@dataclass(frozen=True)
class Speaking:
    """How codes are chosen.

    Args:
        max_frames: most frames of an answer, 12.5 to a second; None: what the head's recipe says.
        temperature: divides the scores before a code is drawn; 0 takes the likeliest.
        seed: another one draws other codes.
    """

    max_frames: int | None = None
    temperature: float = 0.0
    seed: int = 0


class Utterance(NamedTuple):
    """What was said."""

    codes: torch.Tensor
    """(frames, books), on the CPU"""
    finish: str
    """stop: the model ended it; length: it was cut at the most frames"""


def say(
    model: "OmniForConditionalGeneration | Any",
    processor: "OmniProcessor",
    conversations: Sequence[list[Message]],
    texts: Sequence[str],
    speaking: Speaking = Speaking(),
) -> list[Utterance]:
    """Say the text of the answer to each conversation, as one batch.

    What is said of one does not depend on the others.

    Args:
        model: in evaluation mode, with a codec and a depth head.
        processor: the one saved beside the model.
        conversations: each ends with a user.
        texts: of the answers.
        speaking: how.

    Raises:
        SpeechError: the model cannot speak, or a text has no word.
        ValueError: prompts of several lengths for an LLM that does not leave padding out.
    """
    said: list[list[torch.Tensor]] = [[] for _ in texts]
    ended = torch.zeros(len(texts), dtype=torch.bool)
    prompts = begin(processor, conversations, texts)
    for codes, ended in utter(model, processor, prompts, speaking):
        for row in (~ended).nonzero()[:, 0].tolist():
            said[row].append(codes[row])
    codec: Any = model.encoders[model.codec]
    books = len(codec.books)
    return [
        Utterance(torch.stack(rows) if rows else torch.zeros(0, books, dtype=torch.long),
                  "stop" if stopped else "length")
        for rows, stopped in zip(said, ended.tolist(), strict=True)
    ]  # fmt: skip


def begin(
    processor: Any, conversations: Sequence[list[Message]], texts: Sequence[str]
) -> "list[Encoded]":
    """Encode conversations and the texts of their answers, which are said next.

    Raises:
        SpeechError: a text has no word.
        MessageError, MediaError, PlaceholderError: as `OmniProcessor.encode`.
    """
    for text in texts:
        if not any(character.isalnum() for character in text):
            raise SpeechError(f"there is no word in {text!r} that could be said")
    return [processor.begun(c, t) for c, t in zip(conversations, texts, strict=True)]


@torch.no_grad()
def utter(
    model: Any, processor: Any, prompts: "Sequence[Encoded]", speaking: Speaking,
    heard: torch.Tensor | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:  # fmt: skip
    """Yield, frame by frame, codes (B, books) and which answers have ended by then (B,).

    Args:
        model, processor: see `say`.
        prompts: (B,) made by `begin`.
        speaking: how.
        heard: (M, books), codes of all sound in the prompts, where they are known already.

    Raises:
        SpeechError: the model cannot speak.
        ValueError: see `say`.
    """
    head = audio_head(model)
    table, books = model.projectors[model.codec], model.encoders[model.codec].books
    batch = processor.pad([*prompts])
    if heard is not None:
        batch[f"{model.codec}_codes"] = heard
    batch = {k: v if k in model.host_inputs() else v.to(model.device) for k, v in batch.items()}
    mask = batch.pop("attention_mask")
    model.check_padding(mask)
    embeds = model.embed(batch.pop("input_ids"), batch)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    ended, kept = torch.zeros(len(prompts), dtype=torch.bool, device=model.device), None
    draws = [torch.Generator().manual_seed(speaking.seed) for _ in prompts]
    most = head.max_frames if speaking.max_frames is None else speaking.max_frames
    cached = model.config.continues
    for _ in range(most):
        if cached:
            decoded = model.get_decoder()(
                inputs_embeds=embeds, attention_mask=mask, position_ids=positions,
                past_key_values=kept, use_cache=True,
            )  # fmt: skip
            kept = decoded.past_key_values
        else:
            decoded = model.decode(embeds, position_ids=positions)
        hidden = decoded.last_hidden_state[:, -1]
        codes = choose(head, table, books, hidden, speaking.temperature, draws)
        ended = ended | (codes[:, 0] == books[0])
        # who has ended hears its end again and again, and nobody hears of that
        codes = torch.where(ended[:, None], codes.new_tensor(books), codes)
        yield codes.cpu(), ended.cpu()
        if ended.all():
            return
        frame, at = table.embed(codes).sum(1)[:, None].to(embeds.dtype), positions[:, -1:] + 1
        embeds = frame if cached else torch.cat([embeds, frame], 1)
        positions = at if cached else torch.cat([positions, at], 1)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)


def choose(
    head: DepthHead, table: Any, books: Sequence[int], hidden: torch.Tensor,
    temperature: float = 0.0, draws: Sequence[torch.Generator] = (),
) -> torch.Tensor:  # fmt: skip
    """Choose the codes of a frame from hidden states (B, D): (B, books).

    The first may be the end of the clip; the others cannot. Each row draws from its own stream.
    """
    cache, given = head.start(), hidden
    total, codes = torch.zeros_like(hidden), []
    for book, size in enumerate(books):
        scores = head.step(given, cache).float()
        if book:
            scores = scores[:, :size]
        if temperature:
            noise = [torch.empty(scores.shape[1]).exponential_(generator=g) for g in draws]
            scores = scores / temperature - torch.stack(noise).to(scores.device).log()
        codes.append(scores.argmax(1))
        total = total + table.tables[book](codes[-1]).to(hidden.dtype)
        given = total
    return torch.stack(codes, 1)


def audio_head(model: Any) -> Any:
    """Return the head that predicts codes.

    Raises:
        SpeechError: there is none.
    """
    if (name := model.head_of("depth")) is None:
        raise SpeechError("the model cannot speak: it has no head that predicts codes; train one "
                          "with a recipe like speech_tiny")  # fmt: skip
    return model.heads[name]
