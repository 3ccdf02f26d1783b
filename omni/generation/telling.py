"""Answers in which text and speech take turns: some words, how they sound, more words."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ..processing.identity import identify
from ..processing.messages import Message
from .answer import complete
from .settings import Generation
from .speech import Speaking, audio_head, utter
from .writer import ends_of

if TYPE_CHECKING:
    from transformers import TextStreamer

    from ..model.forward import OmniForConditionalGeneration
    from ..processing.processor import OmniProcessor

PIECES = 32  # of an answer, at most


class Piece(NamedTuple):
    """Some text of an answer, and its speech."""

    text: str
    codes: torch.Tensor
    """(frames, books), on the CPU; none of a piece without a word"""
    finish: str
    """stop: the model ended both; length: one was cut at its most tokens or frames"""


def tell(
    model: "OmniForConditionalGeneration | Any",
    processor: "OmniProcessor",
    conversation: list[Message],
    generation: Generation = Generation(),  # noqa: B008 - frozen
    speaking: Speaking = Speaking(),  # noqa: B008
    streamer: "TextStreamer | None" = None,
) -> Iterator[Piece]:
    """Answer a conversation piece by piece: each is written, then said, then the next is written.

    As an answer `assistant("one", audio(...), "two", audio(...))` is learnt: where the text of a
    piece ends, its speech begins, and after that more text or the end. What is written and said
    first is what `answer` and `say` make.

    Args:
        model: in evaluation mode, with a codec and a depth head.
        processor: the one saved beside the model.
        conversation: ends with a user.
        generation: how each piece is written; `n` is 1, and there is no budget of thinking.
        speaking: how each is said.
        streamer: receives the tokens of the text as they appear.

    Yields:
        Pieces, until one is empty, was cut, or there are 32.

    Raises:
        SpeechError: the model cannot speak.
        ValueError: `n` is more than 1, or `thinking` is set.
    """
    if generation.n > 1 or generation.thinking is not None:
        raise ValueError("an answer that is told is one, without a budget of thinking")
    audio_head(model)
    ends = ends_of(model, processor.tokenizer, processor.ends[0])
    prompt, key = processor.encode(conversation, generation=True), identify(conversation).whole
    codes = _heard(model, processor, prompt)
    prompt = replace(prompt, media={n: m for n, m in prompt.media.items() if n != model.codec})
    for number in range(PIECES):
        batch = processor.pad([prompt]) | {f"{model.codec}_codes": codes}
        drawn = f"{key}|{number}" if number else key  # the first is what `answer` draws
        [written] = complete(model, processor, batch, generation, streamer, [drawn])
        if not any(map(str.isalnum, written.text)):
            return
        ids = written.ids[:-1] if int(written.ids[-1]) in ends else written.ids
        prompt = replace(prompt, input_ids=torch.cat([prompt.input_ids, ids]))
        said, ended = [], False
        for row, over in utter(model, processor, [prompt], speaking, codes):
            ended = bool(over[0])
            said += [] if ended else [row[0]]
        found = torch.stack(said) if said else codes.new_zeros(0, codes.shape[1])
        whole = ended and written.finish == "stop"
        yield Piece(written.text, found.cpu(), "stop" if whole else "length")
        if not whole:
            return
        books = model.encoders[model.codec].books
        codes = torch.cat([codes, found.to(codes), codes.new_tensor([books])])
        token = processor.modalities[model.codec]["token_id"]
        spoken = prompt.input_ids.new_full((len(found) + 1,), token)
        prompt = replace(prompt, input_ids=torch.cat([prompt.input_ids, spoken]))


@torch.no_grad()
def _heard(model: Any, processor: Any, prompt: Any) -> torch.Tensor:
    """Return the codes of the sound in a prompt, (M, books)."""
    batch = processor.pad([prompt])
    batch = {k: v if k in model.host_inputs() else v.to(model.device) for k, v in batch.items()}
    found = model.codes(model.codec, batch)
    if found is None:
        width = len(model.encoders[model.codec].books)
        found = torch.zeros(0, width, dtype=torch.long, device=model.device)
    return found
