"""An answer that is said: its text -> a WAV file's bytes."""

from typing import TYPE_CHECKING, Any

from ..generation.settings import Generation
from ..processing.messages import Message

if TYPE_CHECKING:
    from torch import Tensor

    from ..generation.speech import Utterance


def spoken(
    model: Any, processor: Any, messages: list[Message], text: str, generation: Generation
) -> tuple[bytes, str]:
    """Say an answer; return a WAV file, and what there is to know of it.

    Args:
        model, processor: in evaluation mode; a model that speaks.
        messages: ending with a question.
        text: of the answer.
        generation: `temperature` and `seed` are taken for the codes too.

    Raises:
        SpeechError: the model cannot speak, or there is no word in the text.
    """
    from ..generation.speech import Speaking, Voice, say
    from .sounds import wav

    how = Speaking(temperature=generation.temperature, seed=generation.seed)
    [said] = say(model, processor, [messages], [text], how)
    wave = Voice(model).wave(said.codes)
    return wav(wave), length_of(wave, said)


def length_of(wave: "Tensor", said: "Utterance") -> str:
    """Say how long a sound is, (samples,), and whether it was cut."""
    from ..heads.mel import RATE

    cut = ", cut at the most frames of an answer" if said.finish == "length" else ""
    return f"{len(wave) / RATE:.1f} s{cut}"
