"""What is asked -> the tensors of its prompt; a bad medium is named by its place."""

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..generation.settings import Generation
from .content import Content
from .limits import RequestLimits
from .refusal import RequestError
from .request import Asked

if TYPE_CHECKING:
    from ..processing.processor import Encoded, OmniProcessor


class Encoder:
    """Encodes requests for a model within limits.

    Args:
        processor: the one saved beside the model.
        context: tokens that the model knows the positions of.
        limits: of a request.
    """

    def __init__(self, processor: "OmniProcessor", context: int, limits: RequestLimits) -> None:
        self.processor, self.context, self.limits = processor, context, limits

    def __call__(self, asked: Asked) -> "tuple[Encoded, str, Generation]":
        """Return the prompt, what tells it apart from others, and how it is answered.

        Raises:
            RequestError: a medium cannot be read, or the prompt is too long.
        """
        from ..processing.identity import identify

        if isinstance(asked.prompt, str):
            prompt = self._plain(asked.prompt)
            key = hashlib.sha256(asked.prompt.encode()).hexdigest()
        else:
            prompt = self._chat(asked.prompt)
            key = identify(asked.prompt.messages).whole
        return prompt, key, self._fitted(asked, len(prompt))

    def _fitted(self, asked: Asked, length: int) -> Generation:
        most, room = asked.generation.max_new_tokens, self.context - length
        if room < 1 or (asked.limited and room < most):
            raise RequestError(
                f"{length:,} tokens and {most if asked.limited else 1:,} new ones are over the "
                f"limit of {self.context:,}",
                "prompt" if isinstance(asked.prompt, str) else "messages",
                code="context_length_exceeded",
            )
        return replace(asked.generation, max_new_tokens=min(most, room))

    def _plain(self, text: str) -> "Encoded":
        """Encode words without a template; what looks like a special token in them is words."""
        import torch

        from ..processing.literal import hide, stand_ins, tokenize
        from ..processing.processor import Encoded

        tokenizer = self.processor.tokenizer
        standing = stand_ins(tokenizer, [text])
        [ids] = tokenize(tokenizer, [hide(text, standing)], standing)
        begins = tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
        tokens = torch.tensor([tokenizer.bos_token_id, *ids] if begins else ids)
        return Encoded(tokens, tokens.clone())

    def _chat(self, content: Content) -> "Encoded":
        from ..processing.messages import MessageError, user
        from ..processing.processor import PlaceholderError

        shown: dict[Any, Any] = {}  # media are preprocessed once, each by itself
        media = [part for message in content.messages for part in message["content"]
                 if part["type"] != "text"]  # fmt: skip
        for part, place in zip(media, content.places, strict=True):
            try:
                self._check(part)
                self.processor.encode([user(part)], generation=True, shown=shown)
            except (ValueError, RuntimeError, MemoryError, OverflowError) as error:
                raise RequestError(_reason(error), place) from error
        try:
            return self.processor.encode(content.messages, generation=True, shown=shown)
        except (MessageError, PlaceholderError) as error:
            raise RequestError(_reason(error), "messages") from error

    def _check(self, part: dict[str, Any]) -> None:
        """Hold a medium against the limits of requests, which are below those of decoders."""
        from ..media.decode import load_audio, load_image
        from ..media.limits import LIMITS
        from ..media.video import LIMITS as VIDEO
        from ..media.video import scan_video

        ours = {"max_bytes": self.limits.max_bytes, "max_pixels": self.limits.max_pixels,
                "max_seconds": self.limits.max_seconds}  # fmt: skip
        kind = part["type"]
        if kind == "image":
            load_image(part[kind], replace(LIMITS, **ours))
        elif kind == "audio":
            load_audio(part[kind], limits=replace(LIMITS, **ours))
        else:
            scan_video(part[kind], replace(VIDEO, **ours))


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"
