"""Greedy answers to a batch of conversations."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from .messages import Message

if TYPE_CHECKING:
    from transformers import TextStreamer

    from .model import OmniForConditionalGeneration
    from .processor import OmniProcessor


@torch.inference_mode()
def answer(
    model: "OmniForConditionalGeneration",
    processor: "OmniProcessor",
    conversations: list[list[Message]],
    max_new_tokens: int = 64,
    stop: Sequence[str] = (),
    streamer: "TextStreamer | None" = None,
) -> list[str]:
    """Continue each conversation (ending in a user turn) with one greedy assistant turn.

    Args:
        model: in evaluation mode.
        processor: the one saved beside the model.
        conversations: one batch; left-padded together.
        max_new_tokens: cap for every answer.
        stop: strings that end an answer; they are cut off.
        streamer: receives the tokens of a single conversation as they appear.
    """
    batch = processor.pad([processor.encode(c, generation=True) for c in conversations])
    batch = {k: v.to(model.device) for k, v in batch.items()}
    tokenizer = processor.tokenizer
    ends = model.config.eos_token_id  # one id, a list of them, or none
    ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
    output = model.generate(
        **batch, max_new_tokens=max_new_tokens, do_sample=False, streamer=streamer,
        eos_token_id=sorted(ends), pad_token_id=tokenizer.pad_token_id or 0,
    )  # fmt: skip
    texts = tokenizer.batch_decode(
        output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
    )
    return [_cut(text, stop) for text in texts]


def _cut(text: str, stop: Sequence[str]) -> str:
    for string in stop:
        text = text.split(string, 1)[0]
    return text.strip()
