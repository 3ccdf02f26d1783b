"""Tiny stand-ins of the packages that hold voices and recordings: laid out as the real ones are."""

import gzip
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import soundfile

RATE = 16_000
PROGRAM = """#!/bin/sh
# flite -voice NAME --setf duration_stretch=... -t TEXT -o FILE, or flite -lv
[ -e "$LD_LIBRARY_PATH/libflite.so.1" ] || exit 127
case "$*" in *unspeakable*) exit 1 ;; esac
[ "$1" = -lv ] || cp "{folder}/$2.wav" "$8"
"""


class NanoTTS:
    """A square wave, of a period by voice and pitch, as long as the text and the speed say."""

    def speak(self, text, voice, speed, pitch, volume) -> bytes:
        period = int((12 if voice == "en-GB" else 20) / pitch)
        signs = np.where(np.arange(int(1500 / speed) + 10 * len(text)) // period % 2, 1, -1)
        return (signs * int(16_000 * volume)).astype("<i2").tobytes()


def install_pico(patch) -> None:
    """Let `import py_nanotts` give this one, by a pytest MonkeyPatch."""
    module = ModuleType("py_nanotts")
    module.__spec__, module.NanoTTS = ModuleSpec("py_nanotts", None), NanoTTS
    patch.setitem(sys.modules, "py_nanotts", module)


def write_flite(cache: Path) -> None:
    """Write the packages flite and libflite1 into the cache of Debian packages."""
    program = cache / "debian/flite/usr/bin/flite"
    library = cache / "debian/libflite1/usr/lib/some-machine/libflite.so.1"
    for path in (program, library):
        path.parent.mkdir(parents=True)
        path.touch()
    program.write_text(PROGRAM.format(folder=program.parent))
    program.chmod(0o755)
    for pitch, voice in enumerate(("awb", "rms", "slt", "kal16"), 5):
        soundfile.write(program.with_name(f"{voice}.wav"), tone(20 * pitch), RATE)


def tone(pitch: float, seconds: float = 0.2) -> np.ndarray:
    """A sine wave at RATE."""
    return (0.4 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * RATE)) / RATE)).astype("f4")


def write_g722(path: Path, wave: np.ndarray) -> None:
    """Write a wave as asterisk's sounds are: codes without a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="g722") as file:
        stream = file.add_stream("g722", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray((wave * 2**15).astype("i2")[None], "s16", "mono")
        frame.sample_rate = RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            file.mux(packet)


def write_recordings(root: Path, texts: dict[str, str]) -> None:
    """Write the recordings of four speakers; `texts` are asterisk's, by name."""
    listed = root / "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
    listed.parent.mkdir(parents=True)
    lines = ["; a comment: none", *(f"{name}: {text}" for name, text in texts.items())]
    listed.write_bytes(gzip.compress("\n".join(lines).encode()))
    sounds = root / "usr/share/asterisk/sounds/en_US_f_Allison"
    for number, name in enumerate(texts):
        write_g722(sounds / f"{name}.g722", tone(200 + 20 * number))
    names = [f"ktuberling/sounds/en/{name}" for name in ("pizzeria_broccolli", "moon_palmtree")]
    names += [f"klettres/en/{name}" for name in ("alpha/B", "syllab/th", "syllab/dog")]
    names += [f"klettres/en_GB/{name}" for name in ("alpha/z", "syllab/ear", "syllab/hut")]
    for number, name in enumerate(names):
        path = root / f"usr/share/{name}.ogg"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(900 + 30 * number), RATE)
