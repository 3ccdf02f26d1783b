"""Answers to a batch of conversations."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..processing.identity import identify
from ..processing.messages import Message
from .prefix import Shared, repeated, share
from .settings import Completion, Generation
from .watch import Watcher
from .writer import Writer

if TYPE_CHECKING:
    from transformers import TextStreamer

    from ..model.forward import OmniForConditionalGeneration
    from ..processing.processor import OmniProcessor


def answer(
    model: "OmniForConditionalGeneration",
    processor: "OmniProcessor",
    conversations: list[list[Message]],
    generation: Generation = Generation(),  # noqa: B008 - frozen
    streamer: "TextStreamer | None" = None,
) -> list[str]:
    """Continue each conversation (ending in a user turn) with one assistant turn, or with n.

    Args:
        model: in evaluation mode.
        processor: the one saved beside the model.
        conversations: one batch; left-padded together, which changes no answer.
        generation: how; greedily by default. With n answers to each, they follow one
            another.
        streamer: receives the tokens of a single answer as they appear.
    """
    batch = prompts(processor, conversations)
    keys = [identify(messages).whole for messages in conversations]
    return [found.text for found in complete(model, processor, batch, generation, streamer, keys)]


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


def complete(
    model: "OmniForConditionalGeneration | Any",
    processor: "OmniProcessor | Any",
    batch: Mapping[str, torch.Tensor] | Shared,
    generation: Generation = Generation(),  # noqa: B008 - frozen
    streamer: "TextStreamer | None" = None,
    keys: Sequence[str] | None = None,
    watcher: Watcher | None = None,
    keep: bool = False,
) -> list[Completion]:
    """Answer what `prompts` made, or any model what its processor made, padded on the left.

    Tokens are chosen after the logits processors that the model's `generation_config` asks for.
    What is drawn follows from the seed, the prompt's key and the number of the answer, not from
    the rest of the batch. Where a template lets the prompt end with the tag that opens thinking,
    texts begin with it. Stop strings within thinking end nothing.

    Args:
        model, processor, streamer: see `answer`.
        batch: B prompts.
        generation: how.
        keys: (B,) what tells the prompts apart where tokens are drawn. Without, their tokens do,
            so that prompts of equal words draw alike, whatever media they show.
        watcher: sees the answers grow, and may end some.
        keep: return what `top_p` left to draw from as well, see `Completion`.

    Returns:
        B · n completions, the n of one prompt after another; their tensors are on the CPU.
    """
    with torch.inference_mode():
        given = (batch.to_generate(model, generation.n) if isinstance(batch, Shared)
                 else repeated(model, batch, generation.n))  # fmt: skip
        keys = _tokens(given)[:: generation.n] if keys is None else keys
        ids = given["input_ids"]
        writer = Writer(model, processor, ids, generation, keys, watcher, keep)
        return writer.end(model.generate(**given, streamer=streamer, **writer.options))


def _tokens(given: Mapping[str, torch.Tensor]) -> list[str]:
    """Spell out the tokens of each row, without padding."""
    ids = given["input_ids"]
    masks = given.get("attention_mask", torch.ones_like(ids)).bool()
    return [str(row[mask].tolist()) for row, mask in zip(ids, masks, strict=True)]
