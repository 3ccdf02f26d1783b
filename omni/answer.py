"""Greedy answers to a batch of conversations."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from .messages import Message
from .prefix import Shared, share

if TYPE_CHECKING:
    from transformers import TextStreamer

    from .model import OmniForConditionalGeneration
    from .processor import OmniProcessor


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
    batch = prompts(processor, conversations)
    return complete(model, processor, batch, max_new_tokens, stop, streamer)


def prompts(
    processor: "OmniProcessor", conversations: list[list[Message]], sharing: bool = False
) -> dict[str, torch.Tensor] | Shared:
    """Encode the conversations up to the header of the answer, left-padded, on the CPU.

    Args:
        processor: the one saved beside the model.
        conversations: one batch.
        sharing: split those that begin alike where that pays; ask `prefix.shares` of the model.

    Raises:
        MessageError, MediaError, PlaceholderError: as `OmniProcessor.encode`.
    """
    encoded = [processor.encode(c, generation=True) for c in conversations]
    return (share(processor, encoded) if sharing else None) or processor.pad(encoded)


@torch.inference_mode()
def complete(
    model: "OmniForConditionalGeneration | Any",
    processor: "OmniProcessor | Any",
    batch: Mapping[str, torch.Tensor] | Shared,
    max_new_tokens: int = 64,
    stop: Sequence[str] = (),
    streamer: "TextStreamer | None" = None,
) -> list[str]:
    """Answer what `prompts` made, or any model what its processor made, padded on the left.

    For the arguments see `answer`.
    """
    given = (batch.to_generate(model) if isinstance(batch, Shared)
             else {name: tensor.to(model.device) for name, tensor in batch.items()})  # fmt: skip
    tokenizer, prompt = processor.tokenizer, given["input_ids"].shape[1]
    ids, words = getattr(processor, "ends", ([], ""))
    stop = (*stop, words) if words else stop
    output = model.generate(
        **given, max_new_tokens=max_new_tokens, do_sample=False, streamer=streamer,
        eos_token_id=_ends(model, tokenizer, ids), pad_token_id=tokenizer.pad_token_id or 0,
        stopping_criteria=[_Said(tokenizer, prompt, stop)] if stop else None,
    )  # fmt: skip
    texts = tokenizer.batch_decode(output[:, prompt:], skip_special_tokens=True)
    return [cut(text, stop) for text in texts]


def _ends(model: Any, tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """Every id that ends an answer; each place names one, a list of them, or none."""
    ends = {tokenizer.eos_token_id, *ids}
    for config in (model.config, model.generation_config):
        found = getattr(config, "eos_token_id", None)
        ends |= set(found if isinstance(found, list) else [found])
    return sorted(ends - {None})


class _Said:
    """Ends a row of `generate` once it holds a stop string; transformers' own reads the vocabulary.

    That takes seconds before the first answer, which a few decoded tokens a step never add up to.
    """

    def __init__(self, tokenizer: Any, prompt: int, stop: Sequence[str]) -> None:
        self.tokenizer, self.prompt, self.stop = tokenizer, prompt, stop
        self.tail = 4 * max(map(len, stop))  # tokens: a character may take four

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        new = input_ids[:, max(self.prompt, input_ids.shape[1] - self.tail) :]
        texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        said = [any(string in text for string in self.stop) for text in texts]
        return torch.tensor(said, device=input_ids.device)


def cut(text: str, stop: Sequence[str]) -> str:
    """Drop the first stop string and all after it, and the space around the rest."""
    for string in stop:
        text = text.split(string, 1)[0]
    return text.strip()
