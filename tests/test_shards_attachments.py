"""Files of users are stored as they are, or as what is heard and seen of them without loss."""

import io

import numpy as np
import pytest
import soundfile
from PIL import Image

from data_shards.bench.zoo_pictures import RAMP, WORDS, pictures, png, right, saved
from data_shards.bench.zoo_sounds import RATE, SECONDS, encoded, tone, written
from data_shards.bench.zoo_videos import filmed
from data_shards.sources.base import flac, jpeg
from data_shards.sources.formats.attachments import Attachments
from omni.media.decode import ORIENTATION, load_audio, load_image
from omni.media.kind import kind_by_content

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))


def stored(kind: str, data: bytes, name: str = "") -> tuple[str, bytes]:
    media = Attachments()
    part = media.add(kind, data, name)
    return part, media.parts[part]


@pytest.mark.parametrize("data", [
    saved(NOISE, "JPEG"), saved(NOISE, "JPEG", exif=b"Exif\0\0"),
    saved(NOISE.convert("CMYK"), "JPEG"),
    saved(NOISE, "MPO", save_all=True, append_images=[NOISE]), saved(NOISE, "PNG"),
    saved(NOISE.convert("L"), "PNG"), saved(NOISE.convert("P"), "PNG"),
    saved(NOISE.convert("1"), "PNG"),
])  # fmt: skip
def test_what_every_reader_shows_alike_is_kept_to_the_byte(data):
    part, kept = stored("image", data, "x.gif")  # a name says nothing
    assert kept == data
    assert part == ("img0.jpg" if data[:1] == b"\xff" else "img0.png")


@pytest.mark.parametrize("form", ["BMP", "TIFF", "GIF", "PPM", "WEBP", "JPEG2000", "TGA"])
def test_what_was_lossless_stays_so(form):
    options = {"lossless": True} if form == "WEBP" else {}
    data = saved(NOISE, form, **options)
    part, kept = stored("image", data)
    assert part == "img0.png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(kept))), np.asarray(load_image(data)))


def test_what_was_lossy_keeps_the_colours_of_thin_lines():
    lines = np.zeros((32, 32, 3), np.uint8)
    lines[::2, :, 0] = lines[1::2, :, 2] = 255  # red and blue
    data = saved(Image.fromarray(lines), "AVIF", quality=100, subsampling="4:4:4")
    part, kept = stored("image", data)
    assert part == "img0.jpg"
    shown = np.asarray(load_image(data)).astype(int)
    coarse = np.asarray(load_image(jpeg(load_image(data), quality=95)))
    assert np.abs(np.asarray(load_image(kept)) - shown).max() < 30
    assert np.abs(coarse - shown).max() > 60  # control: what fewer colours do


def test_what_other_readers_show_otherwise_is_stored_as_it_is_shown_here():
    turned = Image.fromarray(RAMP).transpose(Image.Transpose.ROTATE_90)
    exif = turned.getexif()
    exif[ORIENTATION] = 6
    clear = np.stack([np.where(RAMP == 255, 0, RAMP), np.where(RAMP == 255, 0, 255)], -1)
    for data in (
        saved(turned, "PNG", exif=exif), saved(Image.fromarray(WORDS), "PNG"),
        saved(Image.fromarray(clear.astype(np.uint8)), "PNG"),
        png(np.where(RAMP == 255, 9, RAMP)[..., None], 8, 0, (9,)),
    ):  # fmt: skip
        part, kept = stored("image", data)
        assert part == "img0.png" and kept != data
        plain = np.asarray(Image.open(io.BytesIO(kept)).convert("RGB"))  # as others do
        assert right(plain, 1)


def test_every_picture_of_the_zoo_is_stored_as_it_looks():
    for name, data, off in pictures():
        part, kept = stored("image", data)
        assert right(np.asarray(load_image(kept)), off + 4), name
        assert part in ("img0.jpg", "img0.png")


def test_sounds_are_kept_if_other_readers_hear_them_whole():
    whole = written(tone(), RATE, "FLAC")
    unsure = whole[:18] + (int.from_bytes(whole[18:26], "big") >> 36 << 36).to_bytes(8, "big")
    unsure += whole[26:]
    mp3, bare = (
        encoded("mp3", "libmp3lame", RATE, 1, muxer={"write_xing": str(x)}) for x in (1, 0)
    )
    for data, suffix in ((whole, "flac"), (written(tone(), RATE, "WAV"), "wav"), (mp3, "mp3"),
                         (written(tone(), RATE, "OGG"), "ogg")):  # fmt: skip
        assert stored("audio", data) == (f"aud0.{suffix}", data)
    for data in (unsure, bare, whole * 2, encoded("mp4", "aac", RATE, 2),
                 written(tone(), RATE, "OGG") * 2):  # fmt: skip
        part, kept = stored("audio", data)
        assert part == "aud0.flac" and kept != data
        heard, _ = soundfile.read(io.BytesIO(kept), dtype="float32")
        assert len(heard) >= SECONDS * RATE
        assert np.abs(heard - load_audio(data)).max() < 1e-4


def test_a_loud_sound_is_stored_without_clipping():
    heard, _ = soundfile.read(io.BytesIO(flac(tone() * 2)), dtype="float32")
    assert np.abs(heard - tone() / np.abs(tone()).max()).max() < 1e-4


def test_files_are_what_they_hold_and_not_what_they_are_called():
    files = {
        "voice.mp4": encoded("mp4", "aac", RATE, 1),
        "talk.webm": encoded("webm", "libopus", 48_000, 1),
        "film.wav": filmed("mp4", "libx264", 10), "photo.mp3": saved(NOISE, "PNG"),
        "clip.mp4": filmed("webm", "libvpx", 10), "clip.mov": filmed("matroska", "libx264", 10),
        "tone.png": written(tone(), RATE, "WAV"),
    }  # fmt: skip
    media = Attachments()
    for name, data in files.items():
        media.add(kind_by_content(data) or "", data, name)
    assert list(media.parts) == ["aud0.flac", "aud1.flac", "vid0.mp4", "img0.png", "vid1.webm",
                                 "vid2.mkv", "aud2.wav"]  # fmt: skip
