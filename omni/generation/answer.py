"""Answers to a batch of conversations."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..processing.identity import identify
from ..processing.messages import Message
from .budget import Budget
from .forcing import Forcing
from .prefix import Shared, repeated, share
from .sampling import Sampler
from .settings import Completion, Generation
from .stops import Stops
from .thinking import first_stop, opening, spell
from .watch import Watched, Watcher

if TYPE_CHECKING:
    from transformers import TextStreamer

    from ..model.forward import OmniForConditionalGeneration
    from ..processing.processor import OmniProcessor

PROMPT_END = 16  # tokens, of which the tag that opens thinking may be made


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
    tokenizer = processor.tokenizer
    ids, words = getattr(processor, "ends", ([], ""))
    stop, ends = (*generation.stop, *([words] if words else [])), _ends(model, tokenizer, ids)
    with torch.inference_mode():
        given = (batch.to_generate(model, generation.n) if isinstance(batch, Shared)
                 else repeated(model, batch, generation.n))  # fmt: skip
        prompt = given["input_ids"].shape[1]
        keys = _tokens(given)[:: generation.n] if keys is None else keys
        sampler = Sampler(generation, keys, given["input_ids"].device, keep)
        begun = [opening(end) for end in
                 tokenizer.batch_decode(given["input_ids"][:, -PROMPT_END:])]  # fmt: skip
        forcing = None
        if isinstance(generation.thinking, Budget):
            forcing = Forcing(generation.thinking, generation.max_new_tokens, tokenizer, sampler,
                              prompt, begun, ends, stop)  # fmt: skip
        stops = forcing or Stops(tokenizer, prompt, stop, begun, ends, generation.max_new_tokens)

        @torch.inference_mode(False)  # tensors of inference cannot take part in training
        def written(row: int, new: torch.Tensor) -> Completion:
            length = stops.lengths.get(row, new.shape[1])
            tokens, logprobs = new[row, :length].clone(), sampler.logprobs_of(row)[:length].clone()
            if forcing:
                return _forced(forcing, row, tokens, logprobs)
            found = _completion(tokenizer, tokens, logprobs, ends, stop, begun[row])
            return found._replace(kept=sampler.kept_of(row)[: len(found.ids)])

        criteria: list[Any] = [stops.ended] if forcing or stop else []
        watched = Watched(stops, watcher, prompt, len(begun), written) if watcher else None
        output = model.generate(
            **given, max_new_tokens=forcing.new_tokens if forcing else generation.max_new_tokens,
            do_sample=False, num_beams=1,
            streamer=streamer, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id or 0,
            logits_processor=[sampler, forcing] if forcing else [sampler],
            stopping_criteria=[*criteria, *([watched] if watched else [])] or None,
        )  # fmt: skip
        new = output[:, prompt:].cpu()
        if watched:
            watched.end(new)
        return [written(row, new) for row in range(len(new))]


def _forced(
    forcing: Forcing, number: int, tokens: torch.Tensor, logprobs: torch.Tensor
) -> Completion:
    """Return a row whose thinking had a budget."""
    return Completion(
        forcing.whole(number), tokens, logprobs,
        "stop" if forcing.rows[number].stopped else "length", len(forcing.rows[number].thought),
    )  # fmt: skip


def _completion(
    tokenizer: Any, tokens: torch.Tensor, logprobs: torch.Tensor, ends: list[int], stop: Any,
    begun: str,
) -> Completion:  # fmt: skip
    """Leave out what pads tokens (T,) behind an end marker; say why they end."""
    ended = torch.isin(tokens, torch.tensor(ends, dtype=tokens.dtype)).nonzero()[:1, 0].tolist()
    length = ended[0] + 1 if ended else len(tokens)
    text = begun + spell(tokenizer, tokens[:length].tolist())
    finish = "stop" if ended or first_stop(text, stop) >= 0 else "length"
    return Completion(cut(text, stop), tokens[:length], logprobs[:length], finish)


def _tokens(given: Mapping[str, torch.Tensor]) -> list[str]:
    """Spell out the tokens of each row, without padding."""
    ids = given["input_ids"]
    masks = given.get("attention_mask", torch.ones_like(ids)).bool()
    return [str(row[mask].tolist()) for row, mask in zip(ids, masks, strict=True)]


def _ends(model: Any, tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """Every id that ends an answer; each place names one, a list of them, or none."""
    ends = {tokenizer.eos_token_id, *ids}
    for config in (model.config, model.generation_config):
        found = getattr(config, "eos_token_id", None)
        ends |= set(found if isinstance(found, list) else [found])
    return sorted(ends - {None})


def cut(text: str, stop: Sequence[str]) -> str:
    """Drop the first stop string behind the thinking and all after it, and the space around."""
    at = first_stop(text, stop)
    return (text if at < 0 else text[:at]).strip()
