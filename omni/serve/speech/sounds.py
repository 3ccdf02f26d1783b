"""Sound at 16 kHz -> bytes in the formats that clients are sent."""

import io
from typing import TYPE_CHECKING

import numpy as np

from ...heads.mel import RATE
from ...media.decode import within_scale
from ...media.resample import resample

if TYPE_CHECKING:
    from torch import Tensor

    from ...generation.speech import Utterance

PCM_RATE = 24_000  # at which OpenAI's clients play what has no header
MARGIN = 16  # samples around one that its value at another rate depends on, and an even number


def wav(wave: "Tensor") -> bytes:
    """Write a WAV file of 16 bits of a wave (samples,)."""
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, within_scale(wave.numpy()), RATE, format="WAV", subtype="PCM_16")
    return out.getvalue()


def length_of(wave: "Tensor", said: "Utterance") -> str:
    """Say how long a sound is, (samples,), and whether it was cut."""
    cut = ", cut at the most frames of an answer" if said.finish == "length" else ""
    return f"{len(wave) / RATE:.1f} s{cut}"


class Pcm:
    """Samples of 16 bits, little-endian, at 24 kHz: whatever the pieces, those of the whole.

    What is beyond full scale is clipped: how loud the rest will be, nobody knows.
    """

    def __init__(self) -> None:
        self._kept = np.zeros(0, np.float32)  # from an even sample on
        self._sent = 0  # of what is kept

    def push(self, wave: "Tensor", last: bool = False) -> bytes:
        """Take the next samples, (n,); return what is sure by now, and all after the `last`."""
        kept = np.concatenate([self._kept, wave.numpy()])
        ready = len(kept) if last else max(self._sent, (len(kept) - MARGIN) // 2 * 2)
        if ready == self._sent:
            self._kept = kept
            return b""
        whole = resample(kept, RATE, PCM_RATE)
        new = whole[self._sent * 3 // 2 : len(whole) if last else ready * 3 // 2]
        start = max(0, ready // 2 * 2 - MARGIN)
        self._kept, self._sent = kept[start:], ready - start
        return (new.clip(-1, 1) * 32_767).round().astype("<i2").tobytes()
