"""Codes -> sound, of all at once and as they come."""

from collections.abc import Iterator
from typing import Any

import torch
import torchaudio

from ..heads.causal import State
from ..heads.mel import BINS, RATE, griffin_lim
from .speech import SpeechError

HELD = 64  # samples that the filter of another rate looks ahead, at most
CHUNK = 50  # frames that are made at once where all are there: memory does not grow with them


class Voice:
    """Makes sound of codes, at 16 kHz.

    Frames come from the codec's decoder, bettered by the flow if there is one; the wave of them
    from the vocoder, or else from Griffin-Lim, which needs all frames at once. A codec that makes
    its own sound needs none of these.
    """

    def __init__(self, model: Any, seed: int = 0):
        self.codec, self.seed = model.encoders[model.codec], seed
        flow, vocoder = model.head_of("flow"), model.head_of("vocoder")
        self.flow: Any = model.heads[flow] if flow else None
        self.vocoder: Any = model.heads[vocoder] if vocoder else None
        self.whole = self.codec.code_width is None
        """whether the codec makes the wave"""

    @property
    def streams(self) -> bool:
        """Whether sound can be made as codes come."""
        return self.codec.causal if self.whole else self.vocoder is not None

    def wave(self, codes: torch.Tensor) -> torch.Tensor:
        """Make the sound of all codes (n, books): (n * 1280,) float32 at 16 kHz, on the CPU.

        Raises:
            ValueError: a code that its book does not have; end codes are none.
        """
        if self.whole:
            return self.decoded(codes)
        if self.vocoder is None:
            return griffin_lim(torch.cat([*Frames(self).of(codes), torch.zeros(0, BINS)]))
        stream = Stream(self)
        parts = [stream.push(part) for part in codes.split(CHUNK)] if len(codes) else []
        return torch.cat([*parts, stream.rest()])

    def decoded(self, codes: torch.Tensor) -> torch.Tensor:
        """Let the codec make the sound of codes (n, books), on the CPU."""
        wave = self.codec.wave(codes.to(self._device)).cpu()
        return torchaudio.functional.resample(wave, self.codec.rate, RATE)

    @property
    def _device(self) -> torch.device:
        return next(self.codec.parameters()).device


class Frames:
    """Log-mel frames of codes as they come."""

    def __init__(self, voice: Voice):
        self.voice = voice
        self._decoder: State = {}
        self._flow = voice.flow.start(voice.seed) if voice.flow else None

    @torch.no_grad()
    def push(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the frames of the next codes: (n, books) -> (8 n, BINS)."""
        codec = self.voice.codec
        codes = codes.to(codec.norm.weight.device)
        vectors = codec.quantiser.lookup(codes).to(codec.norm.weight.dtype)
        decoded = codec.decoder(vectors[None], self._decoder).refined[0]
        if self._flow is None:
            return decoded
        return self.voice.flow.frames(vectors, decoded, self._flow)

    def of(self, codes: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield the frames of all codes, on the CPU, a chunk at a time."""
        for part in codes.split(CHUNK) if len(codes) else ():
            yield self.push(part).float().cpu()


class Stream:
    """Sound of codes as they come: whatever the chunks, the same as of all at once.

    A causal codec that makes its own sound makes all of it again at each chunk, and what is new is
    given out.

    Raises:
        SpeechError: there is no vocoder, or the codec needs all codes at once.
    """

    def __init__(self, voice: Voice):
        if not voice.streams:
            raise SpeechError(
                "this codec makes sound of all codes at once" if voice.whole else
                "sound is made as codes come by a vocoder alone, and the model has none; "
                "Griffin-Lim makes it of all codes at once"
            )  # fmt: skip
        self.voice, self.vocoder = voice, voice.vocoder
        self._state: State = {}
        self._codes: list[torch.Tensor] = []
        self._given = 0
        if not voice.whole:
            self._frames = Frames(voice)

    @torch.no_grad()
    def push(self, codes: torch.Tensor) -> torch.Tensor:
        """Return what can be heard once these codes are there: (samples,), on the CPU."""
        if not len(codes):
            return torch.zeros(0)
        if self.voice.whole:
            self._codes.append(codes)
            return self._new(HELD)
        return self.vocoder(self._frames.push(codes)[None], self._state)[0].cpu()

    def rest(self) -> torch.Tensor:
        """Return the end, once there are no more codes."""
        if self.voice.whole:
            return self._new(0) if self._codes else torch.zeros(0)
        return self.vocoder.rest(self._state)[0].cpu() if self._state else torch.zeros(0)

    def _new(self, held: int) -> torch.Tensor:
        """Return what was not given out yet of all codes' sound, but for its last samples."""
        wave = self.voice.decoded(torch.cat(self._codes))
        new = wave[self._given : len(wave) - held]
        self._given += len(new)
        return new
