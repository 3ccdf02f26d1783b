"""Answers that are spoken: which conversations may hold them, and what is learnt of them."""

from typing import TYPE_CHECKING, Any

import torch

from ..encoders import gives
from ..model.encoded import Encoded
from ..model.head import IGNORE_INDEX
from .literal import literal_ids
from .messages import Message, MessageError


class Speaks:
    """A processor of answers that may hold codes of sound."""

    if TYPE_CHECKING:
        encode: Any
        end_of_turn: str
        hears: str | None
        modalities: dict[str, Any]
        tokenizer: Any

    def begun(self, messages: list[Message], text: str) -> Encoded:
        """Encode a conversation that ends with a user, and the text of an answer so far."""
        encoded = self.encode(messages, generation=True)
        ids = torch.tensor(literal_ids(self.tokenizer, text), dtype=torch.long)
        encoded.input_ids = torch.cat([encoded.input_ids, ids])
        return encoded

    def _check_voice(self, messages: list[Message]) -> None:
        """Refuse answers that hold audio where nothing makes codes of it.

        Raises:
            MessageError: names the message.
        """
        for number, message in enumerate(messages):
            kinds = {part["type"] for part in message["content"]}
            if message["role"] == "assistant" and "audio" in kinds and not self.speaks:
                raise MessageError(
                    f"message {number}: an answer holds audio, and the model has no codec that "
                    "makes codes of it; attach one ({encoder: {kind: codec, ...}, projector: "
                    "{kind: codes}})"
                )

    @property
    def speaks(self) -> bool:
        """Whether audio is read as codes, which answers may hold."""
        config = self.modalities.get(self.hears or "")
        return config is not None and gives(config["encoder"]) == "codes"

    def _labels(self, tokens: list[int]) -> list[int]:
        """Return the labels of an answer: its tokens, but for the codes it holds.

        What precedes codes is to end the turn: where a model that speaks stops writing, it says
        what it wrote.
        """
        if not self.speaks:
            return tokens
        spoken = [token == self.modalities[self.hears or ""]["token_id"] for token in tokens]
        first = [now and not before for now, before in zip(spoken, [False, *spoken], strict=False)]
        return [self._end_id if begins else IGNORE_INDEX if codes else token
                for token, codes, begins in zip(tokens, spoken, first, strict=True)]  # fmt: skip

    @property
    def _end_id(self) -> int:
        """Return the token that begins what ends a turn.

        Raises:
            MessageError: the template ends turns with nothing, and the tokenizer has no end token.
        """
        ids = self.tokenizer(self.end_of_turn, add_special_tokens=False)["input_ids"]
        if not ids and self.tokenizer.eos_token_id is None:
            raise MessageError("the chat template ends answers with nothing, so a model could not "
                               "say where its text ends and its speech begins")  # fmt: skip
        return ids[0] if ids else self.tokenizer.eos_token_id
