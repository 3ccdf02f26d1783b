"""The shards open in other readers, with what `export` writes beside them."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from data_shards.cli import app
from data_shards.read.entry import read_shard
from data_shards.shards.export import COOKER, ExportError, export
from data_shards.shards.sample import Sample
from data_shards.shards.write import ShardSet
from omni.processing.messages import assistant, audio, image, user

META = {"source": "t", "license": "MIT", "schema": 1}


@pytest.fixture
def folder(tmp_path, make_picture, make_sound) -> Path:
    """Samples with none, one or two images, with sound, and a preference; two splits."""
    found = [
        Sample([user("Hi."), assistant("Hello.")], {}, META),
        Sample([user(image("img0.png")), assistant("a")], {"img0.png": make_picture(1)}, META),
        Sample(
            [user(image("img0.png"), "or", image("img1.png")), assistant("b")],
            {"img0.png": make_picture(2), "img1.png": make_picture(3)},
            META,
        ),
        Sample([user(audio("aud0.wav")), assistant("c")], {"aud0.wav": make_sound(0.1)}, META),
        Sample(
            [user(image("img0.png"), audio("aud0.wav"))],
            {"img0.png": make_picture(4), "aud0.wav": make_sound(0.2)},
            META,
            chosen=[assistant("good")],
            rejected=[assistant("bad")],
        ),
    ]
    held = Sample([user("Held?"), assistant("Yes.")], {}, META, split="heldout")
    with ShardSet(tmp_path / "s", shard_samples=3) as shards:
        for sample in [*found, held]:
            shards.add(sample)
        shards.commit({"licenses": {"t": "MIT"}})
    return tmp_path / "s"


def samples(folder: Path) -> list[Sample]:
    return [s for path in sorted(folder.glob("train-*.tar")) for s in read_shard(path)]


def shard_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.tar")}


def test_webdataset_reads_preferences(folder):
    import webdataset as wds

    shards = [str(path) for path in sorted(folder.glob("train-*.tar"))]
    rows = list(wds.WebDataset(shards, shardshuffle=False))
    assert [json.loads(row["json"])["messages"] for row in rows] == [
        sample.messages for sample in samples(folder)
    ]
    assert json.loads(rows[-1]["json"])["rejected"] == [assistant("bad")]
    assert rows[-1]["aud0.wav"] == samples(folder)[-1].parts["aud0.wav"]


def test_hf_reads_them_with_the_features_of_the_readme(folder, tmp_path):
    import datasets

    cache, before = str(tmp_path / "cache"), shard_bytes(folder)
    shards = [str(path) for path in sorted(folder.glob("train-*.tar"))]
    with pytest.raises(ValueError, match="same types"):  # why features are needed
        datasets.load_dataset("webdataset", data_files=shards, cache_dir=cache)
    (folder / "README.md").write_text("---\nlanguage: en\n---\nMy words.\n")
    assert export(folder, "hf") == [folder / "README.md"]
    assert (folder / "README.md").read_text().endswith("\nMy words.\n")
    both = datasets.load_dataset(str(folder), cache_dir=cache)
    assert {split: len(rows) for split, rows in both.items()} == {"train": 5, "heldout": 1}
    named = datasets.load_dataset(
        "webdataset", data_files={"train": shards}, cache_dir=cache,
        features=datasets.load_dataset_builder(str(folder), cache_dir=cache).info.features,
    )  # fmt: skip
    for data in (both["train"], named["train"]):
        for row, sample in zip(data, samples(folder), strict=True):
            assert row["__key__"] == sample.key and row["json"]["messages"] == sample.messages
            assert row["json"].get("chosen") == sample.chosen
            assert row["aud0.wav"] == sample.parts.get("aud0.wav")
            assert (row["img1.png"] is None) == ("img1.png" not in sample.parts)
        assert data[1]["img0.png"].size == (60, 40)
    assert shard_bytes(folder) == before


def test_exporting_twice_changes_nothing(folder):
    for to in ("hf", "energon"):
        first = {path: path.read_bytes() for path in export(folder, to)}
        assert {path: path.read_bytes() for path in export(folder, to)} == first
    assert "licence of t: MIT" in (folder / "README.md").read_text()


def test_what_a_reader_would_lose_is_refused(folder):
    shard = folder / "train-000001.tar"
    whole = shard.read_bytes()
    (folder / "train-000002.tar").write_bytes(whole)
    with pytest.raises(ExportError, match=r"'00000003' is in train-000001.tar and in train-000002"):
        export(folder, "energon")
    (folder / "train-000002.tar").unlink()
    shard.write_bytes(b"\xa5" * 512 + whole[512:])
    with pytest.raises(ExportError, match=r"train-000001.tar.*without a word"):
        export(folder, "hf")
    with pytest.raises(ExportError, match="holds no shard"):
        export(folder.parent, "hf")


def test_the_command_names_what_it_wrote(folder):
    result = CliRunner().invoke(app, ["export", str(folder), "--to", "energon"])
    assert result.exit_code == 0 and COOKER in result.output
    assert f"energon prepare --tar-index-only {folder}" in result.output
    split = yaml.safe_load((folder / ".nv-meta/split.yaml").read_text())["split_parts"]
    assert split["val"] == ["heldout-000000.tar"] and len(split["train"]) == 2


def energon() -> Path:
    """Return the folder of Energon's programs."""
    if "ENERGON" in os.environ:
        return Path(os.environ["ENERGON"])
    if importlib.util.find_spec("megatron") is None:
        pytest.skip("megatron-energon is not installed; scripts/test_energon.sh tests with it")
    return Path(sys.executable).parent


READ = """
import json, sys
sys.path.insert(0, sys.argv[1])
from energon_cooker import Encoder
from megatron.energon import WorkerConfig, get_loader, get_val_dataset

workers = WorkerConfig.default_worker_config(0)
for split in ("train", "val"):
    data = get_val_dataset(sys.argv[1], split_part=split, batch_size=None, worker_config=workers,
                           task_encoder=Encoder())
    for sample in get_loader(data):
        media = [
            list(part["image"].size) if part["type"] == "image"
            else part["audio"].get_audio().audio_clips[0].shape[-1]
            for message in sample.messages for part in message["content"] if part["type"] != "text"
        ]
        print(json.dumps([sample.__key__, media, sample.chosen, sample.rejected]))
"""


def test_energon_prepares_and_reads_them(folder):
    programs, before = energon(), shard_bytes(folder)
    export(folder, "energon")
    split = (folder / ".nv-meta/split.yaml").read_bytes()
    command = [programs / "energon", "prepare", "--tar-index-only", "--num-workers", "1", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (folder / ".nv-meta/split.yaml").read_bytes() == split
    done = subprocess.run(
        [programs / "python", "-c", READ, folder], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    rows = {row[0]: row[1:] for row in map(json.loads, done.stdout.splitlines())}
    assert rows == {
        "00000000": [[], None, None],
        "00000001": [[[60, 40]], None, None],
        "00000002": [[[60, 40]] * 2, None, None],
        "00000003": [[1600], None, None],
        "00000004": [[[60, 40], 3200], [assistant("good")], [assistant("bad")]],
        "heldout-00000000": [[], None, None],
    }
    assert shard_bytes(folder) == before
