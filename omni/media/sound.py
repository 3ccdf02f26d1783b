"""Sound of any container -> pieces of mono samples to the end of the data, and their number.

Headers are not trusted over the data: libsndfile decodes what it knows the length of, and FFmpeg
(through PyAV) all the rest packet by packet, whatever its header says. Channels are made one by
their mean, in every format alike.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import numpy as np
import soundfile

from .ffmpeg import open_av
from .flac import flac_length, joined
from .limits import Limits, MediaError, check_seconds, reason_of
from .ogg import links
from .resample import resample, resampled
from .wav import plain_wav, wav_length

RATES = (4_000, 192_000)  # Hz; outside, a header lies
_STREAMS = ("mp3", "aac")  # frames that stand alone; tags and other headers may lie between them
_BLOCK = 1 << 20  # samples that are decoded at once
_ENDLESS = 1 << 40  # samples: libsndfile's word for a length that the header leaves open

Piece = tuple[np.ndarray, int]  # (n,) float32 and Hz


def decode_sound(data: bytes, limits: Limits) -> Piece:
    """Return the whole of a sound as (n,) float32 and its Hz, those of its first sample.

    Raises:
        MediaError: not audio, damaged, of an absurd rate, or longer than the limit.
    """
    runs: list[np.ndarray] = []
    first = 0
    for rate, run in groupby(_limited(pieces(data, limits), limits), key=lambda piece: piece[1]):
        first = first or rate
        runs.append(resample(_one([wave for wave, _ in run]), rate, first))
    return _one(runs), first or RATES[0]


def _one(waves: list[np.ndarray]) -> np.ndarray:
    return waves[0] if len(waves) == 1 else np.concatenate([np.zeros(0, np.float32), *waves])


def sound_length(data: Any) -> tuple[int, int]:
    """Return (samples, Hz) of what `decode_sound` makes of a file that it can decode.

    Certain headers are read; where there is none, the samples are decoded and counted.

    Raises:
        MediaError: no decoder knows the file.
    """
    if found := flac_length(data) or wav_length(data):
        return found
    counts, rates = [], []
    for rate, run in groupby(_lengths(bytes(data)), key=lambda length: length[1]):
        counts.append(sum(count for count, _ in run))
        rates.append(rate)
    if not counts:
        return 0, RATES[0]
    return int(resampled(np.array(counts), np.array(rates), rates[0]).sum()), rates[0]


def pieces(data: bytes, limits: Limits) -> Iterator[Piece]:
    """Yield a sound in pieces; one that changes its rate on the way is several of them."""
    if plain := plain_wav(data):
        wave, rate = plain
        check_rate(rate)
        check_seconds(len(wave) / rate, limits)
        yield np.multiply(wave, np.float32(2**-15), dtype=np.float32), rate
        return
    for file, trusted in _files(data):
        with _known(file, trusted) as known:
            if known:
                check_seconds(known.frames / known.samplerate, limits)
            yield from _read(known) if known else _by_ffmpeg(file)


def _lengths(data: bytes) -> Iterator[tuple[int, int]]:
    for file, trusted in _files(data):
        with _known(file, trusted) as known:
            if known:
                yield known.frames, known.samplerate
            else:
                yield from ((len(wave), rate) for wave, rate in _by_ffmpeg(file))


def _files(data: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield the files that are behind one another in one, and whether a header may be trusted.

    An MP3 has no length but the guess of its first frames, or none at all.
    """
    mpeg = data[:3] == b"ID3" or (data[:1] == b"\xff" and data[1:2] >= b"\xe0")
    if data[:4] == b"OggS":
        yield from ((link, True) for link in links(data))
    elif data[:4] == b"fLaC" and not flac_length(data):
        yield from ((file, bool(flac_length(file))) for file in joined(data))
    else:
        yield data, not mpeg


@contextmanager
def _known(data: bytes, trusted: bool) -> Iterator[soundfile.SoundFile | None]:
    """Open a file with libsndfile, if that is sure of its length."""
    if not trusted:
        yield None
        return
    try:
        file = soundfile.SoundFile(io.BytesIO(data))
    except soundfile.SoundFileError:
        yield None
        return
    with file:
        sure = 0 < file.frames < _ENDLESS and file.format != "MP3"
        if sure:
            check_rate(file.samplerate)
        yield file if sure else None


def _read(file: soundfile.SoundFile) -> Iterator[Piece]:
    left = file.frames
    while left:
        try:
            block = file.read(min(left, _BLOCK), dtype="float32", always_2d=True)  # (n, channels)
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise MediaError(f"not readable audio: {reason_of(error)}") from error
        if not len(block):
            raise MediaError(
                f"not readable audio: cut off or broken, {left:,} of {file.frames:,} samples "
                "are missing"
            )
        left -= len(block)
        yield block.mean(axis=1), file.samplerate


def _by_ffmpeg(data: bytes) -> Iterator[Piece]:
    import av

    try:
        with open_av(data) as container:
            stream = container.streams.audio[0]
            if stream.codec_context is None:  # PyAV would crash on its packets
                raise MediaError("not readable audio: no decoder is known for it")
            stands_alone = container.format.name in _STREAMS
            heard, damage = False, None
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    if not stands_alone:
                        raise
                    damage = error  # the header of a second file, or a tag
                    continue
                for frame in frames:
                    heard = True
                    check_rate(frame.sample_rate)
                    yield mono(frame), frame.sample_rate
            if damage and not heard:
                raise damage
    except (av.FFmpegError, IndexError, ValueError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(f"not readable audio: {reason_of(error)}") from error


def mono(frame: Any) -> np.ndarray:
    """Return the mean of the channels of a frame of PyAV, (n,) float32; 1 is full scale."""
    values = frame.to_ndarray()  # (channels, n), or (1, n * channels) of samples that alternate
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    kind, half = values.dtype.kind, 1 << 8 * values.dtype.itemsize - 1
    if kind == "f":
        return values.mean(axis=0, dtype=np.float32)
    return ((values.mean(axis=0) - (half if kind == "u" else 0)) / half).astype(np.float32)


def _limited(found: Iterator[Piece], limits: Limits) -> Iterator[Piece]:
    seconds = 0.0
    for wave, rate in found:
        seconds += len(wave) / rate
        check_seconds(seconds, limits)
        yield wave, rate


def check_rate(rate: int) -> None:
    """Raise MediaError unless a sampling rate in Hz can be true."""
    if not RATES[0] <= rate <= RATES[1]:
        raise MediaError(f"a sampling rate of {rate} Hz is outside {RATES[0]} to {RATES[1]} Hz")
