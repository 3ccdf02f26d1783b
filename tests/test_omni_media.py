"""Media are hostile until decoded: each bad file is one clear error."""

import io
import struct
import zlib

import numpy as np
import pytest
import soundfile
from PIL import Image

from omni.media.decode import ORIENTATION, Limits, MediaError, load_audio, load_image
from omni.media.wav import plain_wav


def png_header(width: int, height: int) -> bytes:
    """Return a tiny PNG file whose header claims any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def jpeg() -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "JPEG")
    return out.getvalue()


def wav(samples, rate=16_000, subtype="FLOAT", kind="WAV") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.asarray(samples, np.float32), rate, format=kind, subtype=subtype)
    return out.getvalue()


IMAGES = {
    "the file is empty": b"",
    "not a readable image: Premature end": jpeg()[:2000],
    "(50000x50000 pixels is over|too many pixels)": png_header(50_000, 50_000),
    "8000x8000 pixels is over the limit of 50,000,000": png_header(8_000, 8_000),
    "20000x1 is too thin": png_header(20_000, 1),
    "not a readable image": b"<html>not found</html>" * 20,
}


@pytest.mark.parametrize("reason", IMAGES)
def test_bad_images_say_why(reason):
    with pytest.raises(MediaError, match=reason) as error:
        load_image(IMAGES[reason])
    assert " at 0x" not in str(error.value)  # no addresses of objects


def test_a_bomb_costs_no_memory():
    import tracemalloc

    bomb = png_header(60_000, 60_000)
    tracemalloc.start()
    with pytest.raises(MediaError):
        load_image(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_missing_file_is_named(tmp_path):
    for load in (load_image, load_audio):
        with pytest.raises(MediaError, match=r"nowhere\.bin: no such file"):
            load(tmp_path / "nowhere.bin")


def test_a_large_file_is_refused_before_it_is_decoded():
    with pytest.raises(MediaError, match="bytes is over the limit of 1,000"):
        load_image(jpeg(), Limits(max_bytes=1000))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_becomes_white(mode):
    picture = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    picture.putpixel((0, 0), (0, 0, 255, 255))
    out = io.BytesIO()
    if mode == "P":
        picture = picture.quantize(4)
    picture.convert(mode).save(out, "PNG")
    loaded = load_image(out.getvalue())
    assert loaded.mode == "RGB"
    assert loaded.getpixel((2, 2)) == (255, 255, 255)
    assert loaded.getpixel((0, 0)) != (255, 255, 255)


@pytest.mark.parametrize("mode", ["L", "CMYK", "1", "I;16"])
def test_other_modes_become_rgb(mode):
    assert load_image(Image.new(mode, (3, 3))).mode == "RGB"


SOUNDS = {
    "the file is empty": b"",
    "the audio has no samples": wav([]),
    "holds NaN or infinite samples": wav([0.0, float("nan"), 0.1]),
    "holds NaN or infinite": wav([0.0, float("inf")]),
    "3600 s of audio is over the limit of 300 s": wav(np.zeros(3600 * 4000), 4000, "PCM_U8"),
    "not readable audio": b"ID3 this is no sound" * 9,
}


@pytest.mark.parametrize("reason", SOUNDS)
def test_bad_sounds_say_why(reason):
    with pytest.raises(MediaError, match=reason) as error:
        load_audio(SOUNDS[reason])
    assert " at 0x" not in str(error.value)


def test_an_array_is_checked_as_a_file_is():
    with pytest.raises(MediaError, match="mono"):
        load_audio(np.zeros((2, 100), np.float32))
    with pytest.raises(MediaError, match="301 s of audio"):
        load_audio(np.zeros(301 * 16_000, np.float32))
    assert load_audio(np.ones(10, np.float64)).dtype == np.float32


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_stereo_at_another_rate_becomes_mono_at_16_khz(kind):
    t = np.arange(44_100) / 44_100
    left, right = np.sin(2 * np.pi * 440 * t), np.zeros_like(t)
    wave = load_audio(wav(np.stack([left, right], 1), 44_100, "PCM_16", kind))
    assert wave.dtype == np.float32
    assert len(wave) == 16_000
    spectrum = np.abs(np.fft.rfft(wave))
    assert spectrum.argmax() == 440  # Hz, in a second of sound
    assert np.abs(wave).max() == pytest.approx(0.5, abs=0.02)  # the mean of both channels


def test_a_truncated_sound_is_an_error_or_what_is_left_of_it():
    whole = wav(np.sin(np.arange(16_000) / 9), subtype="PCM_16", kind="FLAC")
    try:
        left = load_audio(whole[: len(whole) // 2])
    except MediaError as error:
        assert "not readable audio" in str(error)
    else:
        assert 0 < len(left) < 16_000


def test_a_rotated_photo_is_turned_upright(tmp_path):
    picture = Image.new("RGB", (40, 20), "white")
    picture.paste("red", (0, 0, 10, 20))  # red on the left
    exif = picture.getexif()
    exif[0x0112] = 6  # the camera was held so that a viewer must turn it clockwise
    picture.save(tmp_path / "phone.jpg", exif=exif, quality=95)
    upright = load_image(tmp_path / "phone.jpg")
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 3))[1] < 60 < upright.getpixel((10, 36))[1]  # red on top


def test_formats_that_only_ffmpeg_knows_are_heard(tmp_path):
    import av

    path = tmp_path / "voice.m4a"
    tone = (0.4 * np.sin(np.arange(16_000) * 2 * np.pi * 440 / 16_000)).astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        frame.sample_rate = 16_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    wave = load_audio(path)
    assert 15_000 < len(wave) < 18_500
    assert np.abs(np.fft.rfft(wave[2000:14_000])).argmax() == pytest.approx(330, abs=2)


def test_an_odd_sampling_rate_costs_no_memory():
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.zeros(44_101, np.float32), 44_101, format="WAV")
    assert len(load_audio(file.getvalue())) == pytest.approx(16_000, rel=0.01)
    file = io.BytesIO()
    soundfile.write(file, np.zeros(1000, np.float32), 1, format="WAV")
    with pytest.raises(MediaError, match="sampling rate of 1 Hz"):
        load_audio(file.getvalue())


def test_a_list_of_files_opens_none_of_them(tmp_path, monkeypatch):
    import av

    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.wav").write_bytes(wav(np.ones(16_000)))
    playlist = b"ffconcat version 1.0\nfile secret.wav\n"
    with av.open(io.BytesIO(playlist), options={"protocol_whitelist": "file"}) as container:
        assert container.streams.audio  # control: FFmpeg itself would read it
    with pytest.raises(MediaError, match="not readable audio"):
        load_audio(playlist)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_pixels_are_those_of_the_image(mode):
    noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    whole = Image.fromarray(noise).convert(mode)
    turned = whole.getexif()
    turned[ORIENTATION] = 6
    for options in ({}, {"exif": turned}):
        out = io.BytesIO()
        whole.save(out, "JPEG", **options)
        pixels = np.asarray(load_image(out.getvalue()))
        assert pixels.shape == ((56, 40, 3) if options else (40, 56, 3))
        assert np.array_equal(np.asarray(load_image(Image.open(out))), pixels) or mode != "CMYK"
        with pytest.raises(MediaError, match="not a readable image"):
            load_image(out.getvalue()[:-200])
        for end in (1, 2, 3, 4, 30):
            with pytest.raises(MediaError, match="not a readable image"):
                load_image(out.getvalue()[:end])
        with pytest.raises(MediaError, match=r"(56x40|40x56) pixels is over"):
            load_image(out.getvalue(), Limits(max_pixels=100))


@pytest.mark.parametrize("before", [b"\xff", b"\xff\xd0", b"\xff\x01", b"\0"])
def test_no_pixels_slip_past_the_limit(before):
    """libjpeg passes over these bytes; one who takes them for a segment sees another frame."""
    out = io.BytesIO()
    Image.new("RGB", (400, 300)).save(out, "JPEG")
    data = out.getvalue()
    frame = data.index(b"\xff\xc0")
    small = b"\xff\xc0\0\x11\x08\0\x01\0\x01" + data[frame + 9 : frame + 19]
    for hidden in (data[frame:], small + data[frame:]):
        crafted = data[:frame] + before + hidden
        with pytest.raises(MediaError, match=r"400x300 pixels is over|not a readable image"):
            load_image(crafted, Limits(max_pixels=1000))


def test_aplain_wav_is_read_as_libsndfile_reads_it():
    samples = np.random.default_rng(0).integers(-(1 << 15), 1 << 15, 1000).astype(np.int16)
    samples[:2] = -(1 << 15), (1 << 15) - 1
    out = io.BytesIO()
    soundfile.write(out, samples, 16_000, format="WAV", subtype="PCM_16")
    data = out.getvalue()
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    assert plain_wav(data) is not None
    assert np.array_equal(load_audio(data), expected)
    assert plain_wav(data[:-2]) is None  # its header promises more
    longer = data.replace(b"data", b"LIST\x04\0\0\0abcddata")
    assert plain_wav(longer) is None
    assert np.array_equal(load_audio(longer), expected)
