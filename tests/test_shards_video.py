"""The index knows what a video costs: exactly what the processor makes of it."""

import base64
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from data_shards.index.index import Index
from data_shards.preview import write_preview
from data_shards.read.entry import read_shard
from data_shards.shards.sample import Sample
from data_shards.shards.write import write_shards
from omni.media.decode import load_image
from omni.processing.messages import assistant, audio, image, user, video

META = {"source": "grey", "license": "Apache-2.0", "schema": 1}


@pytest.fixture(scope="module")
def clip():
    """Return the function that makes a video, from the tests of the decoder."""
    path = Path(__file__).with_name("test_omni_video.py")
    spec = importlib.util.spec_from_file_location("videos", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.video


def samples(clip, make_picture, make_sound):
    yield Sample([user("Look", video("vid0.mp4"), "and?"), assistant("a")],
                 {"vid0.mp4": clip(31, fps=29)}, META | {})  # fmt: skip
    yield Sample([user(video("vid0.webm", fps=2.3), "12"), assistant("a"), user("3")],
                 {"vid0.webm": clip(24, kind="webm")}, META | {})  # fmt: skip
    both = user(video("vid0.avi", fps=4), video("vid1.mp4", fps=9, max_frames=5), image("img0.png"),
                audio("aud0.wav"), video("vid0.avi", fps=4))  # fmt: skip
    yield Sample([both, assistant("b")], {
        "vid0.avi": clip(17, kind="avi"), "vid1.mp4": clip(40), "img0.png": make_picture(1),
        "aud0.wav": make_sound(0.4)}, META | {})  # fmt: skip
    yield Sample([user("no media"), assistant("c")], {}, META | {})


def test_lengths_with_videos_are_exact(clip, make_picture, make_sound, omni_pair, tmp_path):
    _, processor = omni_pair
    write_shards(samples(clip, make_picture, make_sound), tmp_path / "set")
    lengths = Index.open(tmp_path / "set").lengths(processor)
    encoded = [
        processor.encode(sample.conversation())
        for sample in read_shard(tmp_path / "set" / "train-000000.tar")
    ]
    assert lengths.tokens.tolist() == [len(e) for e in encoded]
    shown = [len(e.media.get("vision", [])) for e in encoded]
    assert shown == [1, 7, 9 + 5 + 1 + 9, 0]
    grid = processor.modalities["vision"]["encoder"]["grid"]
    assert lengths.patches.tolist() == [n * grid[0] * grid[1] for n in shown]


def test_a_video_shown_in_two_ways_is_refused(clip, tmp_path):
    twice = [user(video("vid0.mp4"), video("vid0.mp4", fps=2)), assistant("a")]
    one = [user(video("vid0.mp4")), assistant("a")]
    parts = {"vid0.mp4": clip(8)}
    write_shards([Sample(twice, parts, META | {}), Sample(one, parts, META | {})], tmp_path / "set")
    index = Index.open(tmp_path / "set")
    assert len(index) == 1
    assert "vid0.mp4 is shown in two ways" in str(index.bad[0])


def test_a_video_that_is_cut_is_listed_and_the_rest_kept(clip, tmp_path):
    talk = [user(video("vid0.avi")), assistant("a")]
    whole = clip(40, kind="avi")
    parts = [{"vid0.avi": whole[: len(whole) // 2]}, {"vid0.avi": whole}]
    write_shards([Sample(talk, p, META | {}) for p in parts], tmp_path / "set")
    index = Index.open(tmp_path / "set")
    assert len(index) == 1 and "vid0.avi: " in str(index.bad[0])


@pytest.mark.parametrize("suffix", ["html", "png"])
def test_a_preview_shows_frames_of_a_video_or_why_there_are_none(clip, tmp_path, suffix):
    """The clip is black and gets lighter with each frame, so the frames shown can be told."""
    whole, two = clip(32), clip(2)
    parts = [{"vid0.mp4": whole}, {"vid0.mp4": two}, {"vid0.mp4": whole[: len(whole) // 2]}]
    talk = [user(video("vid0.mp4")), assistant("a")]
    write_preview([Sample(talk, p, META | {}) for p in parts], tmp_path / f"sheet.{suffix}")
    if suffix == "html":
        page = (tmp_path / "sheet.html").read_text()
        pictures = [load_image(base64.b64decode(data))
                    for data in re.findall(r"data:image/jpeg;base64,([^\"]+)", page)]  # fmt: skip
        shades = [round(float(np.mean(picture))) for picture in pictures]
        assert len(shades) == 4 + 2
        assert shades[:4] == sorted(shades[:4]) and shades[3] > shades[0] + 120
        assert re.findall(r"<figcaption>([\d.]+) s", page)[:4] == ["0.5", "1.5", "2.5", "3.5"]
        assert page.count('<p class="bad">vid0.mp4: ') == 1
        assert "<audio" not in page
    else:
        sheet = np.asarray(load_image(tmp_path / "sheet.png"))
        cells = [sheet[20:170, 300 * n + 10 : 300 * n + 290] for n in range(3)]
        shown = [len(np.unique(cell.reshape(-1, 3), axis=0)) for cell in cells]
        assert shown[0] == shown[1] + 2  # four shades of grey, two of them
        assert (cells[2][..., 0] > cells[2][..., 1]).any()  # red letters
