"""An answer that is written, and said into a file."""

from pathlib import Path
from typing import Any

import soundfile
import torch

from ...files.atomic import replacing
from ...generation.answer import answer
from ...generation.settings import Generation
from ...generation.sound import Voice
from ...generation.speech import Speaking, SpeechError, Utterance, say
from ...generation.telling import Piece, tell
from ...processing.messages import Message
from .sounds import length_of, wav


class UnwrittenError(Exception):
    """Why there is no file of an answer's sound."""


def answer_aloud(
    model: Any, processor: Any, messages: list[Message], generation: Generation, path: Path,
    streamer: Any = None,
) -> tuple[str, str]:  # fmt: skip
    """Answer, say the answer, and write its sound to a WAV file.

    Returns:
        The text of the answer, and a line about the file.

    Raises:
        UnwrittenError: there is no word in the answer, or the file cannot be written.
    """
    how = Speaking(temperature=generation.temperature, seed=generation.seed)
    try:
        pieces = _pieces(model, processor, messages, generation, how, streamer)
        if not pieces:
            raise SpeechError("there is no word in the answer that could be said")
        said = Utterance(torch.cat([piece.codes for piece in pieces]), pieces[-1].finish)
        wave = Voice(model).wave(said.codes)
        with replacing(path) as scratch:
            scratch.write_bytes(wav(wave))
    except (SpeechError, OSError, soundfile.SoundFileError) as error:
        raise UnwrittenError(f"{path} was not written: {' '.join(str(error).split())}") from error
    return " ".join(piece.text for piece in pieces), f"{path}: {length_of(wave, said)}"


def _pieces(
    model: Any, processor: Any, messages: list[Message], generation: Generation, how: Speaking,
    streamer: Any,
) -> list[Piece]:  # fmt: skip
    if generation.thinking is None:
        return [*tell(model, processor, messages, generation, how, streamer)]
    # an answer with a budget is written whole
    texts = answer(model, processor, [messages], generation, streamer)
    [said] = say(model, processor, [messages], texts, how)
    return [Piece(texts[0], said.codes, said.finish)]
