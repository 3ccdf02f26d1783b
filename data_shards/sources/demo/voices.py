"""Synthetic voices that run offline: a text, a speed, a pitch and a seed become a wave."""

import ctypes
import importlib.util
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from omni.nearest import nearest

from ..base import RATE, SourceError, SourceUnavailable
from .debian import fetch_package

FLITE = ("awb", "rms", "slt", "kal16")  # a Scottish man, a US man, a US woman, a US man
FLITE_LICENSE = "CMU (BSD-like)"
PICO = ("en-US", "en-GB")
PACKAGES = {"hibari": "hibari-tts", "pico": "py-nanotts", "flite": "flite"}
PICO_PITCHES = (1.0, 0.75, 1.3)  # each sounds like another speaker; beyond them words suffer
PITCHED = [f"pico:{name}@{pitch:g}" for name in PICO for pitch in PICO_PITCHES]
TIMEOUT = 60
Speak = Callable[[str, float, float, int], np.ndarray]
"""text, speed (1: as it is), pitch (1: as it is), seed -> mono float wave (samples,) at RATE"""


class Unspeakable(ValueError):  # noqa: N818 - reads as what it is
    """A voice cannot read this text; says which and why."""


@dataclass(frozen=True)
class Voice:
    """One voice: whoever was recorded for it. At other pitches it is another speaker.

    A voice without a use for the pitch or the seed ignores it.
    """

    name: str
    engine: str
    license: str
    speak: Speak
    pitches: tuple[float, ...] = (1.0,)


def find_voices(names: str, say: Callable[[str], None]) -> list[Voice]:
    """Return the voices that can be had of those that are named.

    Args:
        names: of packages ("pico"), voices ("pico:en-GB"), or voices at one of their pitches
            ("pico:en-GB@0.75", "pico:en-GB@1"), comma-separated.
        say: is told which cannot be had; only where none or not hibari can be had is it an error.

    Raises:
        SourceError: there is no voice of that name.
        SourceUnavailable: hibari is named and not installed, or nothing that is named is here.
    """
    wanted = split_names(names, "--voices", PITCHED)
    found: list[Voice] = []
    for engine, load in ENGINES.items():
        if not any(_engine(name) == engine for name in wanted):
            continue
        try:
            voices = load()
        except SourceUnavailable as error:
            if engine == "hibari":
                raise
            say(f"the voices of {engine} are left out: {error}")
            continue
        found += [
            replace(voice, pitches=pitches)
            for voice in voices
            if (pitches := _pitches(voice, wanted))
        ]
    if not found:
        raise SourceUnavailable(f"--voices {names}: none of them can be had here")
    return found


def _pitches(voice: Voice, wanted: Sequence[str]) -> tuple[float, ...]:
    """Return the pitches at which a voice is wanted: all of them, some, or none."""
    if voice.engine in wanted or voice.name in wanted:
        return voice.pitches
    return tuple(pitch for pitch in voice.pitches if f"{voice.name}@{pitch:g}" in wanted)


def split_names(names: str, option: str, more: Sequence[str] = ()) -> list[str]:
    """Split a comma-separated list of packages, voices or `more`.

    Raises:
        SourceError: one of them does not exist.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    known = [*ENGINES, *(f"pico:{name}" for name in PICO), *(f"flite:{name}" for name in FLITE),
             *more]  # fmt: skip
    for name in wanted:
        if name not in known and _engine(name) != "hibari":
            raise SourceError(f"{option}: no voice {name!r}; {nearest(name, known)}")
    return wanted


def _engine(name: str) -> str:
    """The package of a voice; hibari's voices have names of their own."""
    package = name.partition(":")[0]
    return package if package in ENGINES else "hibari" if name in _hibari_names() else ""


def _hibari_names() -> list[str]:
    if importlib.util.find_spec("hibari") is None:
        return []
    from hibari.voices import VOICES

    # only what is in the package: the other voices would be downloaded
    return [name for name, voice in VOICES.items() if voice.get("bundled")]


def hibari() -> list[Voice]:
    """The voices inside the package hibari-tts."""
    try:
        from hibari import SAMPLE_RATE, Hibari
    except ImportError as error:
        raise SourceUnavailable(_not_installed("hibari")) from error

    def speak(voice: Hibari, text: str, speed: float, pitch: float, seed: int) -> np.ndarray:
        return _resample(voice(text, speed=speed, seed=seed), SAMPLE_RATE)

    return [
        Voice(name, "hibari", "Apache-2.0", partial(speak, Hibari(voice=name)))
        for name in _hibari_names()
    ]


def pico() -> list[Voice]:
    """The English voices of SVOX Pico, inside the package py-nanotts."""
    if importlib.util.find_spec("py_nanotts") is None:
        raise SourceUnavailable(_not_installed("pico"))
    return [
        Voice(f"pico:{name}", "pico", "Apache-2.0", partial(_pico, name), PICO_PITCHES)
        for name in PICO
    ]


def _pico(voice: str, text: str, speed: float, pitch: float, seed: int) -> np.ndarray:
    from py_nanotts import NanoTTS

    if {"<", ">"} & set(text):
        raise Unspeakable(f"pico:{voice} takes < and > for markup: {text!r}")
    with _zeroed_memory():  # at full volume loud vowels are clipped
        sound = NanoTTS().speak(text, voice=voice, speed=speed, pitch=pitch, volume=0.5)
    return np.frombuffer(sound, "<i2").astype(np.float32) / 2**15


@contextmanager
def _zeroed_memory() -> Iterator[None]:
    """Let malloc return zeros, where glibc is: Pico reads memory that it never wrote.

    Without this, pauses and noise of a sentence vary with what the process did before.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)
    perturb = -6  # M_PERTURB: fills with the complement of the value
    mallopt(perturb, 0xFF)
    try:
        yield
    finally:
        mallopt(perturb, 0)


def flite() -> list[Voice]:
    """The voices of the Debian packages flite and libflite1, fetched into the cache."""
    program = fetch_package("flite") / "usr/bin/flite"
    libraries = sorted(fetch_package("libflite1").glob("usr/lib/*/libflite.so.1"))
    folder = str(libraries[0].parent) if libraries else ""
    environment = {**os.environ, "LD_LIBRARY_PATH": folder}
    try:
        _run_flite([str(program), "-lv"], environment)
    except (OSError, subprocess.SubprocessError) as error:
        raise SourceUnavailable(f"{program} does not run here: {error}") from error
    return [
        Voice(f"flite:{name}", "flite", FLITE_LICENSE, partial(_flite, program, environment, name))
        for name in FLITE
    ]


def _flite(
    program: Path, environment: dict[str, str], voice: str,
    text: str, speed: float, pitch: float, seed: int,
) -> np.ndarray:  # fmt: skip
    import soundfile

    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        stretch = ["--setf", f"duration_stretch={1 / speed:.4f}"]
        command = [str(program), "-voice", voice, *stretch, "-t", text, "-o", file.name]
        try:
            _run_flite(command, environment)
            wave, rate = soundfile.read(file.name, dtype="float32")
        except (OSError, ValueError, RuntimeError, subprocess.SubprocessError) as error:
            raise Unspeakable(f"flite:{voice} cannot read {text!r}: {error}") from error
    return _resample(wave, rate)


def _run_flite(command: Sequence[str], environment: dict[str, str]) -> None:
    subprocess.run(command, env=environment, check=True, timeout=TIMEOUT, capture_output=True)


def _resample(wave: np.ndarray, rate: int) -> np.ndarray:
    if rate == RATE:
        return wave
    import torch
    import torchaudio.functional

    return torchaudio.functional.resample(torch.from_numpy(wave), rate, RATE).numpy()


def _not_installed(engine: str) -> str:
    return f"the package {PACKAGES[engine]} is not installed: pip install 'omni-stages[speech]'"


ENGINES: dict[str, Callable[[], list[Voice]]] = {"hibari": hibari, "pico": pico, "flite": flite}
