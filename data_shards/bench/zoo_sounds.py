"""Sounds of every container, codec, rate and number of channels, all of one tone."""

import io
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import av
import numpy as np
import soundfile

HERTZ, PEAK, SECONDS = 440, 0.9, 1.5
RATE = 16_000


class Sound(NamedTuple):
    """A file and what it must sound like: `off` is by how much the peak may be off."""

    name: str
    data: bytes
    peak: float = PEAK
    seconds: float = SECONDS
    off: float = 0.06
    slack: float = 0.0  # seconds that the encoder may add or take away


# what libsndfile writes, and by how much a codec of few bits may be off
_WRITTEN = {
    "WAV": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM",
            "MS_ADPCM", "GSM610"),
    "WAVEX": ("PCM_16", "PCM_24", "FLOAT"), "RF64": ("PCM_16", "PCM_24"), "W64": ("PCM_16",),
    "AIFF": ("PCM_S8", "PCM_16", "PCM_24", "FLOAT", "ULAW"), "AU": ("PCM_16", "FLOAT", "ULAW"),
    "CAF": ("PCM_16", "PCM_24", "ALAC_16"), "FLAC": ("PCM_S8", "PCM_16", "PCM_24"),
    "NIST": ("PCM_16",), "VOC": ("PCM_16",), "OGG": ("VORBIS", "OPUS"), "MP3": ("MPEG_LAYER_III",),
}  # fmt: skip
_ROUGH = {"GSM610": 0.15, "MS_ADPCM": 0.1, "IMA_ADPCM": 0.1}
_PADDED = ("GSM610", "MS_ADPCM", "IMA_ADPCM")  # to whole blocks
# what FFmpeg writes: container, codec, Hz, channels
_ENCODED = (
    ("mp4", "aac", 16_000, 1), ("mp4", "aac", 44_100, 2), ("mp4", "aac", 48_000, 6),
    ("mp4", "alac", 44_100, 1), ("mp4", "alac", 48_000, 2), ("ipod", "aac", 22_050, 2),
    ("mp4", "flac", 48_000, 2), ("mp4", "libopus", 48_000, 2), ("mov", "pcm_s24le", 48_000, 2),
    ("webm", "libopus", 48_000, 1), ("webm", "libopus", 48_000, 2), ("webm", "libopus", 48_000, 6),
    ("webm", "libvorbis", 44_100, 2), ("matroska", "flac", 16_000, 1),
    ("matroska", "pcm_s16le", 16_000, 6), ("matroska", "aac", 48_000, 6),
    ("ogg", "libvorbis", 16_000, 1), ("ogg", "libvorbis", 48_000, 6), ("ogg", "libopus", 48_000, 2),
    ("ogg", "libopus", 16_000, 1), ("ogg", "flac", 44_100, 2), ("adts", "aac", 24_000, 1),
    ("adts", "aac", 44_100, 2), ("mp3", "libmp3lame", 16_000, 1), ("mp3", "libmp3lame", 44_100, 2),
    ("mp3", "libmp3lame", 8_000, 1), ("flac", "flac", 16_000, 1), ("flac", "flac", 48_000, 6),
    ("wav", "pcm_s16le", 8_000, 1), ("wav", "pcm_f32le", 48_000, 6), ("wav", "pcm_mulaw", 8_000, 1),
    ("asf", "wmav2", 44_100, 2), ("ac3", "ac3", 48_000, 6), ("ac3", "ac3", 44_100, 1),
    ("eac3", "eac3", 48_000, 6), ("tta", "tta", 16_000, 2), ("wv", "wavpack", 44_100, 2),
    ("amr", "libopencore_amrnb", 8_000, 1), ("avi", "pcm_s16le", 16_000, 2),
    ("flv", "aac", 44_100, 2), ("mpegts", "aac", 48_000, 2), ("mpegts", "mp2", 48_000, 2),
    ("aiff", "pcm_s16be", 16_000, 2), ("au", "pcm_s16be", 16_000, 2), ("caf", "alac", 44_100, 2),
)  # fmt: skip
_EXACT = ("alac", "flac", "pcm_s24le", "pcm_s16le", "pcm_f32le", "pcm_mulaw", "pcm_s16be", "tta",
          "wavpack")  # fmt: skip
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
_VBR = {"flags": "+qscale", "global_quality": "472"}


def sounds() -> Iterator[Sound]:
    """Yield files that hold the tone in every channel, or in the first alone."""
    for form, kinds in _WRITTEN.items():
        for kind in kinds:
            slack = 0.08 if kind in _PADDED else 0.0
            yield Sound(f"{form} {kind}", written(tone(), RATE, form, kind),
                        off=_ROUGH.get(kind, 0.06), slack=slack)  # fmt: skip
    for rate in (8_000, 22_050, 32_000, 44_100, 48_000, 96_000):
        for form in ("WAV", "FLAC"):
            yield Sound(f"{form} at {rate} Hz", written(tone(rate), rate, form))
    for channels in (2, 3, 4, 6, 8):
        one = np.zeros((len(tone()), channels), np.float32)
        one[:, 0] = tone()
        for form in ("WAV", "FLAC"):
            name = f"{form} of {channels} channels, one heard"
            yield Sound(name, written(one, RATE, form), PEAK / channels)
    for form, codec, rate, channels in _ENCODED:
        exact = codec in _EXACT
        name = f"{form} {codec} {rate} Hz, {channels} channels"
        slack = 0.0 if exact else 0.13
        off = 0.2 if "amr" in codec else 0.06
        # these encoders leave nothing above 120 Hz in the channel for low frequencies
        peak = PEAK * 5 / 6 if channels == 6 and codec in ("aac", "libvorbis") else PEAK
        yield Sound(name, encoded(form, codec, rate, channels), peak, off=off, slack=slack)
        if channels == 2 and codec not in ("libopus", "mp2"):
            yield Sound(f"{name}, one heard", encoded(form, codec, rate, 2, one=True), PEAK / 2,
                        slack=slack)  # fmt: skip
    yield from _piped()
    yield from _joined()
    yield from _mp3s()
    loud = tone() * 2.5
    for kind in ("FLOAT", "DOUBLE"):
        yield Sound(f"WAV {kind} beyond full scale", written(loud, RATE, "WAV", kind), 1.0)
    full = tone() / PEAK  # which a lossy codec overshoots
    for form, kind in (("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")):
        yield Sound(f"{form} {kind} at full scale", written(full, RATE, form, kind), 1.0)


def tone(rate: int = RATE, seconds: float = SECONDS) -> np.ndarray:
    """Return the tone, (samples,) float32."""
    t = np.arange(round(rate * seconds)) / rate
    return (PEAK * np.sin(2 * np.pi * HERTZ * t)).astype(np.float32)


def written(wave: np.ndarray, rate: int, form: str, kind: str | None = None) -> bytes:
    """Return a wave (samples,) or (samples, channels) as a file that libsndfile writes."""
    out = io.BytesIO()
    soundfile.write(out, wave, rate, format=form, subtype=kind)
    return out.getvalue()


def encoded(
    form: str,
    codec: str,
    rate: int,
    channels: int,
    one: bool = False,
    piped: bool = False,
    muxer: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
) -> bytes:
    """Return the tone as a file that FFmpeg writes; `piped`: it cannot go back to the header."""
    wave = np.repeat((tone(rate) * 32767).astype(np.int16)[None], channels, 0)  # (channels, n)
    wave[1:] *= not one
    out = Pipe() if piped else io.BytesIO()
    with av.open(out, "w", format=form, options=muxer or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options or {})
        stream.layout = _LAYOUTS[channels]
        if codec in ("aac", "libopus", "wmav2"):
            stream.bit_rate = 96_000 * channels
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(wave.T).reshape(1, -1), format="s16", layout=_LAYOUTS[channels]
        )
        frame.sample_rate, frame.pts = rate, 0
        fit = av.AudioResampler(stream.codec_context.format, stream.layout, rate,
                                stream.codec_context.frame_size or 1024)  # fmt: skip
        for piece in (*fit.resample(frame), *fit.resample(None)):
            container.mux(stream.encode(piece))
        # the last of FLAC is a packet without samples, its header once more
        container.mux([p for p in stream.encode(None) if p.size or form == "flac"])
    return bytes(out.written) if isinstance(out, Pipe) else out.getvalue()


class Pipe:
    """A file that can only be written to, front to back."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: bytes) -> int:
        """Take the next bytes."""
        self.written += data
        return len(data)


def _piped() -> Iterator[Sound]:
    """Files whose header could not know their length, or knows another."""
    for form, codec, rate in (
        ("wav", "pcm_s16le", RATE), ("flac", "flac", RATE), ("webm", "libopus", 48_000),
        ("matroska", "pcm_s16le", RATE), ("mp3", "libmp3lame", RATE), ("au", "pcm_s16be", RATE),
        ("ogg", "libvorbis", RATE),
    ):  # fmt: skip
        slack = 0.0 if codec in _EXACT else 0.13
        yield Sound(f"{form} from a pipe", encoded(form, codec, rate, 1, piped=True), slack=slack)
    for channels in (1, 2):
        wav = written(np.repeat(tone()[:, None], channels, 1), RATE, "WAV", "PCM_16")
        at = wav.index(b"data") + 4
        for size in (0, 0x7FFFFFFF, 0xFFFFFFFF, 2 * len(wav)):
            data = wav[:at] + struct.pack("<I", size) + wav[at + 4 :]
            yield Sound(f"WAV of {channels} channels that says {size:,} bytes", data)
    flac = written(tone(), RATE, "FLAC")
    for samples in (0, 12_000, 48_000):
        packed = int.from_bytes(flac[18:26], "big") >> 36 << 36 | samples
        yield Sound(f"FLAC that says {samples:,} samples", flac[:18] + packed.to_bytes(8, "big")
                    + flac[26:])  # fmt: skip


def _joined() -> Iterator[Sound]:
    """Files behind one another, as recorders and stations leave them."""
    for form, kind in (("OGG", "VORBIS"), ("OGG", "OPUS"), ("FLAC", "PCM_16"),
                       ("MP3", "MPEG_LAYER_III")):  # fmt: skip
        whole, slow = written(tone(), RATE, form, kind), written(tone(8_000), 8_000, form, kind)
        wide = written(np.stack([tone()] * 2, -1), RATE, form, kind)
        for name, files in (("2", (whole, whole)), ("3", (whole, wide, whole)),
                            ("2 rates", (whole, slow))):  # fmt: skip
            count = len(files)
            yield Sound(f"{form} {kind} of {name} joined", b"".join(files),
                        seconds=SECONDS * count, off=0.12, slack=0.12 * count)  # fmt: skip


def _mp3s() -> Iterator[Sound]:
    """MP3s whose first frames say little of the others."""
    for name, muxer, options in (
        ("constant, without a header", {"write_xing": "0"}, {}),
        ("variable", {}, _VBR),
        ("variable, without a header", {"write_xing": "0"}, _VBR),
    ):
        data = encoded("mp3", "libmp3lame", RATE, 1, muxer=muxer, options=options)
        yield Sound(f"mp3 {name}", data, slack=0.13)
        yield Sound(f"mp3 {name}, with tags", b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + data + b"TAG"
                    + bytes(125), slack=0.13)  # fmt: skip
