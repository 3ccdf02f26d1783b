"""Video: which frames are shown is known from facts alone, and broken files are one clear error."""

import io
import struct
from collections import Counter
from contextlib import contextmanager
from fractions import Fraction

import av
import numpy as np
import pytest

from omni import OmniProcessor
from omni.media import ffmpeg as media
from omni.media.decode import MediaError
from omni.media.video import (
    VideoLimits,
    iter_video,
    load_video,
    scan_video,
    video_frames,
    video_times,
)
from omni.processing.messages import MessageError, assistant, image, user
from omni.processing.messages import video as video_part

KINDS = {"mp4": "libx264", "avi": "mpeg4", "webm": "libvpx", "matroska": "libvpx-vp9"}


def video(frames=24, fps=8, size=(64, 48), kind="mp4", times=None, paint=None, gop=12) -> bytes:
    """Make a video whose n-th frame is grey of the level 8 n, unless `paint(n)` says otherwise."""
    out = io.BytesIO()
    with av.open(out, "w", format=kind) as container:
        stream = container.add_stream(KINDS[kind], rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.time_base, stream.bit_rate = Fraction(1, fps), 2_000_000
        for n in range(frames):
            pixels = np.full((size[1], size[0], 3), 8 * n % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(paint(n) if paint else pixels, format="rgb24")
            frame.pts, frame.time_base = (times[n] if times else n), Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


def noisy(frames, kind="mp4", **options) -> bytes:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (frames, 48, 64, 3), np.uint8)
    return video(frames, kind=kind, paint=lambda n: noise[n], **options)


def levels(frames: np.ndarray) -> list[int]:
    return [round(float(frame.mean()) / 8) for frame in frames]


@pytest.mark.parametrize("kind", KINDS)
def test_each_frame_is_the_one_on_the_screen_at_its_time(kind):
    data = video(kind=kind)  # 3 s at 8 frames/s
    frames, times = load_video(data, fps=2, max_frames=16)
    assert frames.shape == (6, 48, 64, 3) and frames.dtype == np.uint8
    assert times.tolist() == [0.25, 0.75, 1.25, 1.75, 2.25, 2.75]
    assert levels(frames) == [2, 6, 10, 14, 18, 22]
    one, when = next(iter_video(data, fps=2, max_frames=16))
    assert when == 0.25 and (one == frames[0]).all()


def test_a_long_clip_is_spread_over_the_frames_there_may_be():
    frames, times = load_video(video(), fps=8, max_frames=4)
    assert times.tolist() == [0.375, 1.125, 1.875, 2.625]
    assert levels(frames) == [3, 9, 15, 21]


def test_more_frames_than_there_are_are_never_made():
    frames, _ = load_video(video(frames=5), fps=1000, max_frames=1000)
    assert levels(frames) == [0, 1, 2, 3, 4]
    assert len(load_video(video(frames=1), fps=0.001)[0]) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 2, 7, 24, 31])
def test_the_number_of_frames_follows_from_facts(kind, frames):
    data = video(frames, fps=29 if frames % 2 else 7, kind=kind)
    scan = scan_video(data)
    assert (len(scan.pts), scan.width, scan.height) == (frames, 64, 48)
    stored = np.array([scan.rate], "<f4")  # what an index keeps
    for fps, most in ((0.5, 9), (1, 4), (3.7, 16), (30, 8), (100, 100)):
        got, times = load_video(data, fps, most)
        assert len(got) == video_frames(np.array([frames]), stored, fps, most)[0]
        assert times.tolist() == video_times(frames, float(stored[0]), fps, most).tolist()


def test_uneven_frames_are_shown_by_time_not_by_number():
    data = video(frames=5, fps=10, times=[0, 10, 11, 12, 30], kind="matroska")  # 3.1 s
    frames, times = load_video(data, fps=2, max_frames=99)
    assert times.round(2).tolist() == [0.31, 0.93, 1.55, 2.17, 2.79]
    assert levels(frames) == [0, 0, 3, 3, 3]


class Sought:
    """A container that counts how often it is sought, or refuses to be."""

    def __init__(self, container, counts, stuck):
        self.container, self.counts, self.stuck = container, counts, stuck

    def __getattr__(self, name):
        return getattr(self.container, name)

    def seek(self, *args, **options):
        if self.stuck:
            raise OSError("no seeking here")
        self.counts["sought"] += 1
        self.container.seek(*args, **options)


def on_screen(data: bytes, times: np.ndarray) -> np.ndarray:
    """Decode everything with PyAV alone and choose the frames shown at these times."""
    with av.open(io.BytesIO(data)) as container:
        frames = [(f.pts * f.time_base, f.to_ndarray(format="rgb24"))
                  for f in container.decode(video=0)]  # fmt: skip
    begin = frames[0][0]
    return np.stack([[f for at, f in frames if at - begin <= t + 1e-4][-1] for t in times])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fps", [0.3, 2, 8])
def test_skipping_to_keyframes_changes_no_pixel(kind, fps, monkeypatch):
    counts, stuck = Counter(), False

    @contextmanager
    def open_av(data):
        counts["opened"] += 1
        with media.open_av(data) as container:
            yield Sought(container, counts, stuck)

    monkeypatch.setattr("omni.media.video.open_av", open_av)
    data = noisy(100, kind, gop=7)
    quick, times = load_video(data, fps, 99)
    assert counts["opened"] == 2  # to scan and to seek: not once more, to decode everything
    assert counts["sought"] >= len(times) - 1 or fps > 1
    stuck = True
    whole, same = load_video(data, fps, 99)
    assert (quick == whole).all() and (times == same).all()
    assert (quick == on_screen(data, times)).all()


def test_damage_between_the_frames_that_are_shown_does_no_harm():
    data = noisy(96, gop=8)
    want, _ = load_video(data, fps=0.2, max_frames=2)  # at 3 and 9 s, so in frames 24 and 72
    container = av.open(io.BytesIO(data))
    packets = {p.pts * p.time_base * 8: p for p in container.demux(video=0) if p.size}
    start, end = packets[40].pos + 100, packets[47].pos
    hurt = data[:start] + bytes(end - start) + data[end:]
    got, _ = load_video(hurt, fps=0.2, max_frames=2)
    assert (got == want).all()
    with pytest.raises(MediaError, match=r"broken|not a readable"):  # control: it is damaged
        load_video(hurt, fps=8, max_frames=99)


def test_a_phone_held_upright_is_turned():
    paint = np.zeros((48, 64, 3), np.uint8)
    paint[:, :16] = 255  # white on the left
    data = video(paint=lambda n: paint)
    at = data.index(b"tkhd") + 4 + 40
    clockwise = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    data = data[:at] + clockwise + data[at + 36 :]
    frames, _ = load_video(data)
    assert frames.shape[1:] == (64, 48, 3)
    assert frames[0, :8].mean() > 200 > 50 > frames[0, -8:].mean()  # white on top
    scan = scan_video(data)
    assert (scan.width, scan.height) == (48, 64)


def audio_only() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), "fltp", "mono")
        frame.sample_rate = 16_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return out.getvalue()


NOISE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
NOISY = video(frames=40, paint=lambda n: np.roll(NOISE, n, 1), kind="avi")
HOLE = NOISY[: len(NOISY) // 2] + bytes(len(NOISY) // 3) + NOISY[len(NOISY) * 5 // 6 :]
PLAYLIST = b"ffconcat version 1.0\nfile other.mp4\n"
BAD = {
    "the file is empty": b"",
    "not a readable video": b"<html>not found</html>" * 20,
    "not a readable video: .*Invalid data": video()[:900],
    "cut off: [0-9]+ of 40 frames": NOISY[: len(NOISY) // 2],
    "broken|not a readable|cut off": HOLE,
    "not a readable video: .*Invalid argument": PLAYLIST,
    "holds no video": audio_only(),
}


@pytest.mark.parametrize("reason", BAD)
def test_broken_videos_say_why(reason):
    with pytest.raises(MediaError, match=reason) as error:
        load_video(BAD[reason])
    assert " at 0x" not in str(error.value)


LIMITS = {
    "3 s are over the limit of 2 s": {"max_seconds": 2.0},
    "over the limit of 20 frames": {"max_frames": 20},
    "64x48 pixels is over the limit of 3,000 pixels": {"max_pixels": 3000},
    "24 frames of 64x48 are over .* 70,000 pixels to decode": {"max_decoded": 70_000},
    "3 frames of 64x48 are over .* 9,000 pixels at once": {"max_clip": 9_000},
    "bytes is over the limit of 100": {"max_bytes": 100},
}


@pytest.mark.parametrize("reason", LIMITS)
def test_limits(reason):
    with pytest.raises(MediaError, match=reason):
        load_video(video(), limits=VideoLimits(**LIMITS[reason]))


def test_a_video_is_images_after_their_times(omni_pair, make_picture):
    model, processor = omni_pair
    clip = video_part(video(), fps=1, max_frames=8)
    encoded = processor.encode([user("Look: ", clip, " What?"), assistant("grey")])
    text = processor.tokenizer.decode(encoded.input_ids)
    mark = "<|vision|>" * text.count("<|vision|>")
    each = len(mark) // 3
    one = processor.encode([user(image(make_picture(0)))], generation=True)
    assert each == len("<|vision|>") * int((one.input_ids == one.input_ids.max()).sum())
    assert f"Look: 0.5s{mark[:each]}1.5s{mark[:each]}2.5s{mark[:each]} What?" in text
    pixels = processor.pack([encoded])["pixel_values"]
    assert pixels.shape == (3, 3, 48, 48)
    assert pixels[:, :, 24, 24].mean(1).diff().gt(0).all()  # each frame is brighter
    assert model(**processor.pack([encoded])).loss.isfinite()


def test_how_a_video_is_shown_is_an_option_of_the_processor(omni_pair, tmp_path):
    _, processor = omni_pair
    (tmp_path / "clip.mp4").write_bytes(video())
    talk = [user(video_part(tmp_path / "clip.mp4"))]
    own = OmniProcessor(
        processor.tokenizer, processor.modalities, processor.chat_template, {"max_frames": 2}
    )
    own.save_pretrained(tmp_path / "saved")
    for loaded, frames in ((processor, 3), (own, 2)):
        assert len(loaded.encode(talk, generation=True).media["vision"]) == frames
    loaded = OmniProcessor.from_pretrained(tmp_path / "saved")
    assert loaded.video == own.video == {"fps": 1.0, "max_frames": 2}
    assert loaded.fingerprint == own.fingerprint != processor.fingerprint


WRONG = {
    "not 'start'": {"start": 1.0},
    "fps must be a number above 0, not 0": {"fps": 0},
    "fps must be a number above 0, not nan": {"fps": float("nan")},
    "max_frames must be a whole number from 1, not 1.5": {"max_frames": 1.5},
}


@pytest.mark.parametrize("reason", WRONG)
def test_wrong_options_are_refused(omni_pair, reason):
    with pytest.raises(MessageError, match=f"message 0, part 0: .*{reason}"):
        omni_pair[1].encode([user(video_part(video(), **WRONG[reason]))], generation=True)


def test_a_broken_video_is_a_media_error_of_the_processor(omni_pair):
    with pytest.raises(MediaError, match="not a readable video"):
        omni_pair[1].encode([user(video_part(b"junk" * 99))], generation=True)
