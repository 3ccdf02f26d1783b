"""Pictures of a benchmark in training shards: copies are found and named, other pictures not."""

import io
import json

import numpy as np
import pytest
from PIL import Image, ImageOps
from typer.testing import CliRunner

from data_shards.shards.sample import Sample
from data_shards.shards.write import write_shards
from eval.cli import app
from eval.minisuite.schema import write_parquet
from eval.rows.contamination import contamination
from eval.rows.fingerprint import Gallery, fingerprint
from omni.processing.messages import assistant, image, user

META = {"source": "t", "license": "CC0-1.0", "schema": 1}
SIZE = (320, 240)


def scene(seed: int) -> Image.Image:
    """Soft random colours, as a photograph has them, under some hard edges."""
    rng = np.random.default_rng(seed)
    soft = Image.fromarray(rng.integers(0, 255, (5, 6, 3), dtype=np.uint8))
    picture = soft.resize(SIZE, Image.Resampling.BICUBIC)
    for _ in range(3):
        box = sorted(rng.integers(0, SIZE[0], 2)), sorted(rng.integers(0, SIZE[1], 2))
        corners = (int(box[0][0]), int(box[1][0]), int(box[0][1]) + 1, int(box[1][1]) + 1)
        picture.paste(tuple(int(c) for c in rng.integers(0, 255, 3)), corners)
    return picture


def saved(picture: Image.Image, scale: float = 1.0, form: str = "PNG", **how) -> bytes:
    out = io.BytesIO()
    size = (round(picture.width * scale), round(picture.height * scale))
    picture.resize(size, Image.Resampling.BICUBIC).save(out, form, **how)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


@pytest.fixture(scope="module")
def gallery() -> Gallery:
    prints = [fingerprint(scene(seed)) for seed in range(25)]
    return Gallery([one for one in prints if one])


COPIES = {
    "recompressed": lambda p: opened(saved(p, form="JPEG", quality=25)),
    "smaller": lambda p: opened(saved(p, 0.3)),
    "larger": lambda p: opened(saved(p, 1.7, "WEBP", quality=50)),
    "brighter": lambda p: p.point(lambda level: min(255, level + 20)),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_a_copy_is_found_and_only_its_original(change, gallery):
    found = [[number for number, *_ in gallery.near(fingerprint(change(scene(k))))]
             for k in range(25)]  # fmt: skip
    assert found == [[k] for k in range(25)]


def test_other_pictures_are_not_found(gallery):
    others = [fingerprint(scene(seed)) for seed in range(1000, 1200)]
    assert [gallery.near(one) for one in others] == [[]] * 200
    mirrored = [fingerprint(ImageOps.mirror(scene(seed))) for seed in range(25)]
    assert [gallery.near(one) for one in mirrored] == [[]] * 25


def test_the_same_shapes_in_other_colours_are_another_picture(gallery):
    turned = scene(3).convert("HSV")
    hue, *rest = turned.split()
    other = Image.merge("HSV", (hue.point(lambda h: (h + 128) % 256), *rest)).convert("RGB")
    assert gallery.near(fingerprint(other)) == []


def test_one_colour_has_no_fingerprint():
    assert fingerprint(Image.new("RGB", SIZE, "red")) is None


@pytest.fixture
def benchmark(tmp_path):
    rows = [{"question": "?", "answer": "A", "image": saved(scene(k // 2))} for k in range(8)]
    rows.append({"question": "?", "answer": "A", "image": saved(Image.new("RGB", SIZE, "red"))})
    rows.append({"question": "?", "answer": "A", "image": b"broken"})
    return write_parquet("realworldqa", rows, tmp_path / "bench" / "test.parquet")


def shards(folder, pictures: list[bytes]):
    samples = [
        Sample([user(image("img0.jpg"), "?"), assistant("x")], {"img0.jpg": data}, META | {})
        for data in pictures
    ]
    write_shards(samples, folder)
    return folder


def test_hits_are_named_in_the_benchmark_and_in_the_shards(benchmark, tmp_path):
    copy = saved(scene(2), 0.5, "JPEG", quality=60)
    shards(tmp_path / "train" / "web", [saved(scene(100)), copy, saved(scene(101))])
    done = CliRunner().invoke(app, ["contamination", "--data", str(benchmark.parent), "--shards",
                                    str(tmp_path / "train"), "--format", "json"])  # fmt: skip
    assert done.exit_code == 1, done.output
    found = json.loads(done.stdout)
    [hit] = found["hits"]
    assert hit[0] == f"{benchmark}:4"  # asked twice about, named once
    assert hit[1].startswith(str(tmp_path / "train" / "web" / "train-000000.tar:"))
    assert hit[1].endswith("1")
    assert (found["pictures"], found["trained"], found["flat"]) == (4, 3, 1)
    assert "test.parquet:9" in found["unreadable"][0]


def test_clean_shards_pass(benchmark, tmp_path):
    folder = shards(tmp_path / "train", [saved(scene(k)) for k in range(100, 110)])
    done = CliRunner().invoke(
        app, ["contamination", "--data", str(benchmark), "--shards", str(folder)]
    )
    assert done.exit_code == 0, done.output
    assert "0 of 4 pictures" in done.stdout


def test_empty_folders_are_not_clean(benchmark, tmp_path):
    with pytest.raises(FileNotFoundError, match="no shard matches"):
        contamination([benchmark], [tmp_path])
    with pytest.raises(FileNotFoundError, match="no parquet file and no picture"):
        contamination([tmp_path / "bench" / "nothing"], [shards(tmp_path / "t", [saved(scene(0))])])
    none = write_parquet("realworldqa", [{"question": "?", "image": b"x"}], tmp_path / "n.parquet")
    with pytest.raises(ValueError, match="no picture to look for"):
        contamination([none], [tmp_path / "t"])
