"""Texts that are said for those who wait for them, as sound that comes while codes are chosen."""

from typing import TYPE_CHECKING, Any

import torch

from ...generation.sound import Stream, Voice
from ...generation.speech import Utterance, utter
from ..rows import Rows
from ..ticket import Ticket

if TYPE_CHECKING:
    from torch import Tensor

FRAMES = 5  # of codes that become sound at once: 0.4 s


def speak(model: Any, processor: Any, batch: list[Ticket], rows: Rows) -> None:
    """Say what tickets ask for, as one batch.

    Args:
        model, processor: see `utter`.
        batch: of one way of speaking; their prompts hold what is said.
        rows: hear of it.

    Raises: see `utter`.
    """
    voice = Voice(model)
    sounds = [Sound(voice) for _ in batch]
    left = dict.fromkeys(range(len(batch)))

    def end(row: int, finish: str) -> None:
        rows.spoke(row, sounds[row].rest())
        rows.ended(row, Utterance(sounds[row].whole, finish))

    how: Any = batch[0].how
    for codes, ended in utter(model, processor, [ticket.prompt for ticket in batch], how):
        for row in tuple(left):
            if rows.leaves(batch[row]):
                del left[row]
            elif ended[row]:
                del left[row]
                end(row, "stop")
            else:
                rows.spoke(row, sounds[row].push(codes[row]))
        if not left:
            return
    for row in left:
        end(row, "length")


class Sound:
    """The sound of codes, some frames at a time where a vocoder makes it as they come."""

    def __init__(self, voice: Voice) -> None:
        self.voice, self.codes = voice, list["Tensor"]()
        self.stream = Stream(voice) if voice.streams else None

    @property
    def whole(self) -> "Tensor":
        """All codes so far, (frames, books)."""
        books = len(self.voice.codec.books)
        return torch.stack(self.codes) if self.codes else torch.zeros(0, books, dtype=torch.long)

    def push(self, codes: "Tensor") -> "Tensor":
        """Take the codes of a frame, (books,); return the sound that is new, (samples,)."""
        self.codes.append(codes)
        if self.stream is None or len(self.codes) % FRAMES:
            return torch.zeros(0)
        return self.stream.push(torch.stack(self.codes[-FRAMES:]))

    def rest(self) -> "Tensor":
        """Return what has not been heard yet, once there are no more codes."""
        codes = self.whole
        if self.stream is None:
            return self.voice.wave(codes)
        heard = len(codes) - len(codes) % FRAMES
        return torch.cat([self.stream.push(codes[heard:]), self.stream.rest()])
