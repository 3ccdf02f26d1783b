"""Pictures of every mode have the right levels; sounds of every container the right length."""

import io
import struct
from itertools import islice

import numpy as np
import pytest
import soundfile
from PIL import Image

from data_shards.bench.zoo_pictures import LEVELS, pictures, saved, tiff
from data_shards.bench.zoo_sounds import PEAK, RATE, encoded, sounds, tone, written
from data_shards.bench.zoo_videos import filmed, videos
from omni.media.decode import load_audio, load_image, within_scale
from omni.media.facts import Facts, facts_of
from omni.media.flac import flac_length
from omni.media.kind import kind_by_content
from omni.media.limits import MediaError
from omni.media.video import load_video

QUARTERS = np.tile(np.array(LEVELS, np.uint8), (4, 1))  # (4, 5)
WORDS = {"I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2", "I": "<i4"}


@pytest.mark.parametrize("mode", ["L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK",
                                  "YCbCr", "HSV", *WORDS])  # fmt: skip
def test_an_image_in_memory_has_the_levels_of_its_file(mode):
    grey = Image.fromarray(QUARTERS)
    if mode in WORDS:
        values = np.rint(QUARTERS / 255 * 65535).astype(WORDS[mode])
        picture = Image.frombytes(mode, grey.size, values.tobytes())
    else:
        via = {"La": "LA", "PA": "P"}.get(mode, "L" if mode in ("LA", "P") else "RGB")
        via = {"RGBa": "RGBA"}.get(mode, via)
        picture = grey.convert(via).convert(mode)
    assert picture.mode == mode
    shown = np.asarray(load_image(picture)).astype(int)
    assert np.abs(shown - QUARTERS[..., None]).max() <= 1


@pytest.mark.parametrize("values", [
    np.linspace(0, 1, 12, dtype=np.float32), np.arange(12, dtype=np.int32),
    np.arange(12, dtype=np.int32) - 500, np.arange(12, dtype=np.int32) * 9999,
    np.arange(12, dtype=np.int16) * 99,
])  # fmt: skip
def test_numbers_that_do_not_say_what_is_white_are_refused(values):
    picture = values.reshape(3, 4)
    if values.dtype == np.int16:  # signed samples, in a file that says so
        data = tiff(picture[..., None], 1)
        at = data.index(struct.pack("<HHI", 284, 3, 1))
        data = data[:at] + struct.pack("<HHIHH", 339, 3, 1, 2, 0) + data[at + 12 :]
    else:
        data = saved(Image.fromarray(picture), "TIFF")
    with pytest.raises(MediaError, match="which of them is white; save it with 8 or 16 bits"):
        load_image(data)
    assert facts_of("image", data) == Facts(4, 3)  # a size is known all the same


def test_a_black_picture_of_integers_is_black():
    assert not np.asarray(load_image(Image.new("I", (3, 3)))).any()


def test_a_heic_picture_names_the_extra():
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
    for read in (load_image, lambda data: facts_of("image", data)):
        with pytest.raises(MediaError, match=r"HEIC picture: .*\[heic\]"):
            read(heic)


def test_the_kind_is_that_of_the_content():
    """Formats without a signature of their own may say nothing, but never something else."""
    films = [video.data for video in videos() if not video.name.startswith("gif")]
    zoo = {"image": [data for _, data, _ in pictures()], "video": films,
           "audio": [sound.data for sound in islice(sounds(), 60)]}  # fmt: skip
    for kind, files in zoo.items():
        found = [kind_by_content(data) for data in files]
        assert {*found} <= {kind, None}
        assert found.count(kind) > 0.8 * len(files)
    assert kind_by_content(filmed("gif", "gif", 10)) == "image"
    for form, codec in (("mp4", "aac"), ("webm", "libopus"), ("flv", "aac"), ("asf", "wmav2")):
        rate = 48_000 if codec == "libopus" else 44_100
        assert kind_by_content(encoded(form, codec, rate, 1)) == "audio"
    assert kind_by_content(b"") is kind_by_content(b"text") is None


def test_streams_that_only_packets_bring_do_no_harm():
    """PyAV frees options of streams that it never counted, and the process is gone."""
    for _ in range(3):
        assert len(load_video(filmed("flv", "libx264", 10))[0]) == 1
        assert load_audio(encoded("flv", "aac", 44_100, 1)).max() > PEAK / 2


def test_a_codec_that_nobody_knows_is_an_error():
    wav = bytearray(written(tone(), RATE, "WAVEX", "PCM_24"))
    wav[44] = 0xF8  # first byte of the format's GUID
    for read in (load_audio, lambda data: facts_of("audio", data)):
        with pytest.raises(MediaError, match="no decoder is known for it"):
            read(bytes(wav))
    with pytest.raises(MediaError, match="not readable audio"):
        load_audio(b"\xff")


def test_the_header_of_a_flac_is_believed_if_its_last_frame_bears_it_out():
    for seconds in (0.01, 0.3, 1.5):
        for rate in (8_000, 16_000, 44_100):
            data = written(tone(rate, seconds), rate, "FLAC")
            assert (
                flac_length(data) == flac_length(memoryview(data)) == (round(rate * seconds), rate)
            )
    made = encoded("flac", "flac", RATE, 1)  # by another encoder
    assert flac_length(made) == (24_000, RATE)
    assert flac_length(data + b"TAG" + bytes(125)) == (66_150, 44_100)
    assert flac_length(data[: len(data) // 2]) is None
    assert flac_length(data + data) is None
    for samples in (0, 1, 66_149, 66_151):
        packed = int.from_bytes(data[18:26], "big") >> 36 << 36 | samples
        assert flac_length(data[:18] + packed.to_bytes(8, "big") + data[26:]) is None


@pytest.mark.parametrize("form", ["WAV", "FLAC"])
def test_the_common_files_are_not_decoded_for_their_facts(form, monkeypatch):
    data = written(tone(), RATE, form)
    monkeypatch.setattr(soundfile, "SoundFile", None)
    assert facts_of("audio", data) == Facts(count=24_000, rate=RATE)


def test_beyond_full_scale_nothing_is_clipped():
    loud = tone() * 3
    out = io.BytesIO()
    soundfile.write(out, loud, RATE, format="WAV", subtype="FLOAT")
    for source in (out.getvalue(), loud):
        wave = load_audio(source)
        assert np.abs(wave).max() == 1
        assert np.allclose(wave, loud / np.abs(loud).max(), atol=1e-6)
    quiet = tone() / 3
    assert within_scale(quiet) is quiet


@pytest.mark.filterwarnings("ignore:Image was not the expected size")
@pytest.mark.parametrize("side", [60, 8_000])
def test_an_icon_is_as_large_as_the_picture_that_it_holds(side):
    held = saved(Image.new("L", (side, side)), "PNG")
    icon = struct.pack("<3H4B2H2I", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(held), 22) + held
    if side == 60:
        assert load_image(icon).size == facts_of("image", icon)[:2] == (60, 60)
        return
    for read in (load_image, lambda data: facts_of("image", data)):
        with pytest.raises(MediaError, match="8000x8000 pixels is over the limit"):
            read(icon)
