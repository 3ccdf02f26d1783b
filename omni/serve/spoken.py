"""An answer that is said: its text -> a WAV file's bytes."""

import io
from typing import Any

from ..generation.settings import Generation
from ..processing.messages import Message


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
    import soundfile

    from ..generation.speech import Speaking, Voice, say
    from ..heads.mel import RATE
    from ..media.decode import within_scale

    how = Speaking(temperature=generation.temperature, seed=generation.seed)
    [said] = say(model, processor, [messages], [text], how)
    wave = within_scale(Voice(model).wave(said.codes).numpy())
    out = io.BytesIO()
    soundfile.write(out, wave, RATE, format="WAV")
    cut = ", cut at the most frames of an answer" if said.finish == "length" else ""
    return out.getvalue(), f"{len(wave) / RATE:.1f} s{cut}"
