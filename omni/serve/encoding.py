"""What is asked -> the tensors of its prompt; a bad medium is named by its place."""

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..generation.budget import Budget
from ..generation.settings import Generation
from ..processing.messages import Message
from .content import Content
from .limits import RequestLimits
from .refusal import RequestError

if TYPE_CHECKING:
    from ..generation.speech import Speaking
    from ..model.forward import OmniForConditionalGeneration
    from ..processing.processor import Encoded, OmniProcessor


class Encoder:
    """Encodes requests for a model within limits.

    Args:
        model: for which.
        processor: the one saved beside it.
        limits: of a request.
    """

    def __init__(
        self, model: "OmniForConditionalGeneration", processor: "OmniProcessor",
        limits: RequestLimits,
    ) -> None:  # fmt: skip
        from ..generation.speech import SpeechError, audio_head

        self.processor, self.limits = processor, limits
        self.context = model.config.get_text_config(decoder=True).max_position_embeddings
        try:
            self.frames, self.mute = audio_head(model).max_frames, ""
        except SpeechError as error:
            self.frames, self.mute = 0, str(error)

    def __call__(
        self, asked: Content | str, generation: Generation, limited: bool
    ) -> "tuple[Encoded, str, Generation]":
        """Return the prompt, what tells it apart from others, and how it is answered.

        Args:
            asked: the messages to answer, or the text to continue.
            generation: as it is wished for.
            limited: the request itself says how many tokens it wants at most.

        Raises:
            RequestError: a medium cannot be read, or the prompt is too long.
        """
        from ..processing.identity import identify

        if isinstance(asked, str):
            prompt, key = self._plain(asked), hashlib.sha256(asked.encode()).hexdigest()
        else:
            prompt, key = self._chat(asked), identify(asked.messages).whole
        place = "prompt" if isinstance(asked, str) else asked.place
        return prompt, key, self._fitted(generation, limited, len(prompt), place)

    def _fitted(
        self, generation: Generation, limited: bool, length: int, place: str
    ) -> Generation:  # fmt: skip
        from ..generation.forcing import room as before

        thinking, most = generation.thinking, generation.max_new_tokens
        spent = before(thinking, self.processor.tokenizer) if isinstance(thinking, Budget) else 0
        room = self.context - length - spent
        if room < 1 or (limited and room < most):
            new = spent + (most if limited else 1)
            raise self._long(f"{length:,} tokens and {new:,} new ones", place)
        return replace(generation, max_new_tokens=min(most, room))

    def check_speaks(self, place: str) -> None:
        """Refuse what asks for sound of a model that cannot speak.

        Raises:
            RequestError: it cannot; `place` is what asks for it.
        """
        if self.mute:
            raise RequestError(self.mute, place)

    def to_say(
        self, messages: list[Message], text: str, temperature: float, seed: int, place: str
    ) -> "tuple[Encoded, str, Speaking]":
        """Return what `__call__` does, of an answer that is there as text and is said next.

        Args:
            messages: end with a user.
            text: of the answer.
            temperature, seed: see `Speaking`.
            place: in the request, of what decides the length.

        Raises:
            SpeechError: there is no word in the text.
            RequestError: there is no room for sound.
        """
        from ..generation.speech import Speaking, begin

        [prompt] = begin(self.processor, [messages], [text])
        room = self.context - len(prompt)
        if room < 1:
            raise self._long(f"{len(prompt):,} tokens and those of sound", place)
        return prompt, "", Speaking(min(self.frames, room), temperature, seed)

    def _long(self, what: str, place: str) -> RequestError:
        return RequestError(f"{what} are over the limit of {self.context:,}", place,
                            code="context_length_exceeded")  # fmt: skip

    def _plain(self, text: str) -> "Encoded":
        """Encode words without a template; what looks like a special token in them is words."""
        import torch

        from ..processing.literal import literal_ids
        from ..processing.processor import Encoded

        tokenizer = self.processor.tokenizer
        ids = literal_ids(tokenizer, text)
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
            raise RequestError(_reason(error), content.place) from error

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
