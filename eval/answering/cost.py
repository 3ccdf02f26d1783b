"""How long a prompt is, before anything of it is decoded."""

from typing import Any

import numpy as np
from PIL import Image

from omni.media.facts import FIELDS, Facts, facts_of
from omni.media.limits import LIMITS, read_limited
from omni.processing.messages import media_refs

RATE = 16_000  # Hz of a sound that is an array


class TokenCost:
    """Counts the tokens of a prompt from its words and the headers of its pictures and sounds.

    Where there is a video, whose frames only decoding tells, it estimates them from the length of
    the words and one example of each combination of media.

    Args:
        processor: an `OmniProcessor`.
    """

    characters_per_token = 4

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.per_medium: dict[tuple[str, ...], int] = {}  # kinds in a conversation -> their tokens

    def __call__(self, messages: list[dict[str, Any]]) -> int:
        """Raises MessageError, MediaError: as `OmniProcessor.encode`."""
        refs = [*media_refs(messages)]
        if any(kind == "video" for kind, _ in refs):
            return self._estimated(messages, tuple(kind for kind, _ in refs))
        tokens = self.processor.text_length(messages, generation=True)
        return tokens + sum(self._medium(kind, ref) for kind, ref in refs)

    def _medium(self, kind: str, ref: Any) -> int:
        facts = np.array([tuple(_facts(kind, ref))], FIELDS)
        return int(self.processor.media_lengths(kind, facts)[0][0])

    def _estimated(self, messages: list[dict[str, Any]], kinds: tuple[str, ...]) -> int:
        letters = sum(len(part.get("text", "")) for turn in messages for part in turn["content"])
        words = letters // self.characters_per_token
        if kinds not in self.per_medium:
            encoded = self.processor.encode(messages, generation=True)
            self.per_medium[kinds] = max(0, len(encoded) - words)
        return words + self.per_medium[kinds]


def _facts(kind: str, ref: Any) -> Facts:
    if isinstance(ref, Image.Image):
        return Facts(*ref.size)
    if isinstance(ref, np.ndarray):
        return Facts(count=len(ref), rate=RATE)
    return facts_of(kind, read_limited(ref, LIMITS))
