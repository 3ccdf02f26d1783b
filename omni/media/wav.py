"""WAV files that are read without libsndfile, which calls back into Python for every few bytes."""

import struct
from typing import Any

import numpy as np

_FORMAT = struct.Struct("<IHHIIHH").unpack_from  # bytes, codec, channels, Hz, .., block, bits
_PLAIN = (1, 3)  # codecs: integers, floats


def plain_wav(data: bytes) -> tuple[np.ndarray, int] | None:
    """Return the samples (n,) int16 and Hz of a mono 16-bit WAV; None where libsndfile should look.

    libsndfile takes eight times as long.
    """
    if data[:4] != b"RIFF" or data[8:16] != b"WAVEfmt " or len(data) < 44:
        return None
    size, kind, channels, rate, _, _, bits = _FORMAT(data, 16)
    if (size, kind, channels, bits) != (16, 1, 1, 16) or data[36:40] != b"data":
        return None
    size = int.from_bytes(data[40:44], "little")
    if not size or size % 2 or 44 + size > len(data):
        return None
    return np.frombuffer(data, "<i2", size // 2, 44), rate


def wav_length(data: Any) -> tuple[int, int] | None:
    """Return (samples, Hz) of a WAV file that is as long as its header says; None: ask a decoder.

    What a pipe writes, which cannot know its length when it writes the header, is left to them.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    at, rate, block = 12, 0, 0
    while at + 8 <= len(data):
        kind, size = bytes(data[at : at + 4]), int.from_bytes(data[at + 4 : at + 8], "little")
        if kind == b"fmt " and at + 24 <= len(data):
            _, codec, channels, hertz, _, width, bits = _FORMAT(data, at + 4)
            if codec in _PLAIN and width == channels * (bits + 7 >> 3):
                rate, block = hertz, width
        if kind == b"data":
            whole = rate and block and 0 < size <= len(data) - at - 8
            return (size // block, rate) if whole else None
        at += 8 + size + size % 2
    return None
