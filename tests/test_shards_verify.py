"""What is damaged is bad; what other makers do not write is only said."""

import importlib.util
import io
import json
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_shards.cli import app
from data_shards.shards.sample import Sample
from data_shards.shards.write import write_shards
from data_shards.verify import verify
from omni.processing.messages import assistant, user, video

META = {"source": "grey", "license": "Apache-2.0", "schema": 1}
TALK = [{"role": "user", "content": [{"type": "image", "image": "img0.png"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "x"}]}]  # fmt: skip
MAKERS = {
    "conversations": (lambda n, picture: {"json": json.dumps({"messages": TALK}).encode(),
                                          "img0.png": picture},
                      "do not say their license, schema, source"),
    "captions": (lambda n, picture: {"png": picture, "txt": b"A thing."},
                 "3 samples are no conversations"),
    "captions and facts": (lambda n, picture: {"jpg": picture, "txt": b"A thing.",
                                               "json": b'{"width": 3}', "cls": b"7"},
                           "3 samples are no conversations"),
}  # fmt: skip


@pytest.fixture(scope="module")
def clip():
    path = Path(__file__).with_name("test_omni_video.py")
    spec = importlib.util.spec_from_file_location("videos", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(folder: Path, samples: list[dict[str, bytes]]) -> None:
    folder.mkdir()
    with tarfile.open(folder / "train-000000.tar", "w") as archive:
        for n, parts in enumerate(samples):
            for name, data in parts.items():
                info = tarfile.TarInfo(f"{n:05}.{name}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("make", MAKERS)
def test_faultless_shards_of_other_makers_are_good(make, make_picture, tmp_path):
    parts, lacks = MAKERS[make]
    samples = [parts(n, make_picture(n)) for n in range(3)]
    write(tmp_path / "whole", samples)
    result = CliRunner().invoke(app, ["verify", str(tmp_path / "whole")])
    assert result.exit_code == 0, result.output
    assert lacks in result.output and "no manifest.json" in result.output
    assert "3 samples good, 0 problems" in result.output
    name = next(name for name in samples[1] if name.endswith(("png", "jpg")))
    samples[1][name] = samples[1][name][:-100]
    write(tmp_path / "broken", samples)
    result = CliRunner().invoke(app, ["verify", str(tmp_path / "broken")])
    assert result.exit_code == 1
    assert "2 samples good, 1 problems" in result.output
    assert f"bad: train-000000.tar:00001 at byte 0: {name}: not a readable image" in result.output


def test_json_that_is_broken_or_lacks_its_messages_among_others_is_bad(make_picture, tmp_path):
    make, _ = MAKERS["conversations"]
    samples = [make(n, make_picture(n)) for n in range(3)]
    for n, raw in ((1, b'{"message": []}'), (2, b"{")):
        samples[n]["json"] = raw
    write(tmp_path / "mixed", samples)
    assert [bad.key for bad in verify(tmp_path / "mixed")] == ["00001", "00002"]
    write(tmp_path / "broken", samples[2:])
    assert ["readable json" in bad.reason for bad in verify(tmp_path / "broken")] == [True]


def test_a_folder_without_shards_is_an_error(tmp_path):
    result = CliRunner().invoke(app, ["verify", str(tmp_path)])
    assert result.exit_code == 1
    assert "holds no .tar file" in result.output.replace("\n", " ")


SUFFIX = {"matroska": "mkv"}
DAMAGE = {
    "cut": lambda data: data[: len(data) * 2 // 3],
    "zeros": lambda data: data[: len(data) // 2] + bytes(len(data) // 4) + data[-len(data) // 4 :],
    "no video": lambda data: b"not a video" * 100,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", ["mp4", "avi", "webm", "matroska"])
def test_every_frame_of_a_video_is_decoded(clip, kind, damage, tmp_path):
    """The damage lies in the middle, where the few frames that training looks at may miss it."""
    whole, name = clip.noisy(40, kind=kind, fps=8), f"vid0.{SUFFIX.get(kind, kind)}"
    talk = [user(video(name, max_frames=1)), assistant("a")]
    parts = [{name: whole}, {name: DAMAGE[damage](whole)}]
    write_shards([Sample(talk, p, META | {}) for p in parts], tmp_path / "set")
    bad = list(verify(tmp_path / "set"))
    assert [b.key for b in bad] == ["00000001"]
    assert bad[0].reason.startswith(f"{name}: ")


def test_a_broken_medium_that_no_message_shows_is_bad_too(clip, make_picture, tmp_path):
    make, _ = MAKERS["conversations"]
    whole = make(0, make_picture(0))
    write(tmp_path / "set", [whole, whole | {"aud0.wav": b"RIFF"}, whole | {"vid0.mp4": b"x"}])
    assert [bad.reason.split(":")[0] for bad in verify(tmp_path / "set")] == [
        "aud0.wav",
        "vid0.mp4",
    ]
