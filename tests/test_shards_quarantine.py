"""A modality of which every sample is bad stops the run, however rare it is."""

import io
import json
from itertools import islice
from pathlib import Path

import pytest
import soundfile
import yaml
from PIL import Image
from typer.testing import CliRunner

from data_shards.index.index import Index
from data_shards.plan.plan import Plan, PlanConfig
from data_shards.read.loader import Loader
from data_shards.read.quarantine import FEW, TooManyBad, check_modalities
from data_shards.shards.sample import Sample
from data_shards.shards.write import write_shards
from omni.processing.messages import assistant, audio, image, user
from stages.cli import app

META = {"source": "t", "license": "MIT", "schema": 1}
MEDIA = {"vision": (image, "img0.jpg"), "audio": (audio, "aud0.flac")}


def sample(modality, data, n):
    show, part = MEDIA[modality]
    return Sample([user(show(part), f"{n}?"), assistant("so")], {part: data}, META)


@pytest.fixture(scope="module")
def broken(make_picture, make_sound):
    """Hold what has intact headers, so that it is indexed, and cannot be decoded."""
    picture, sound = io.BytesIO(), io.BytesIO()
    Image.open(io.BytesIO(make_picture(1, (90, 90)))).save(picture, "JPEG")
    soundfile.write(sound, *soundfile.read(io.BytesIO(make_sound(0.5))), format="FLAC")
    damaged = bytearray(sound.getvalue())
    damaged[-500:] = bytes(500)
    return {"vision": picture.getvalue()[:-300], "audio": bytes(damaged)}


def loader_of(folder, processor, samples, **options):
    texts = [Sample([user(f"{n}?"), assistant("yes")], {}, META) for n in range(200)]
    write_shards(samples, folder / "media")
    write_shards(texts, folder / "texts")
    sources = {name: Index.open(folder / name) for name in ("media", "texts")}
    config = PlanConfig({"media": 0.1, "texts": 0.9}, max_samples=8, max_length=4096)
    lengths = {name: index.lengths(processor) for name, index in sources.items()}
    return Loader(Plan(sources, config, lengths), processor, max_bad_share=1, **options)


@pytest.mark.parametrize("modality", MEDIA)
def test_a_rare_modality_without_one_good_sample_stops_the_run(
    modality, broken, omni_pair, tmp_path
):
    samples = [sample(modality, broken[modality], n) for n in range(30)]
    loader = loader_of(tmp_path, omni_pair[1], samples, quarantine=tmp_path / "q.jsonl")
    expected = rf"modality '{modality}': all {FEW} of its samples .* first: train-.*; see .*q.jsonl"
    with pytest.raises(TooManyBad, match=expected):
        list(islice(loader, 40))
    assert loader.counts.seen > 5 * FEW  # the rest is text and good


@pytest.mark.parametrize("modality", MEDIA)
def test_one_good_sample_is_enough(modality, broken, omni_pair, make_picture, make_sound, tmp_path):
    good = make_picture(0) if modality == "vision" else make_sound(0.3)
    samples = [sample(modality, good if n < 12 else broken[modality], n) for n in range(30)]
    loader = loader_of(tmp_path, omni_pair[1], samples)
    list(islice(loader, 60))
    count = loader.counts.media[modality]
    assert FEW < count["bad"] < count["read"]
    loader.check_modalities(lambda mine: mine)


def test_fewer_stop_it_at_the_end_and_after_a_resume(broken, omni_pair, tmp_path):
    samples = [sample("vision", broken["vision"], n) for n in range(30)]
    loader = loader_of(tmp_path, omni_pair[1], samples)
    batches = islice(loader, 60)
    while not loader.counts.media:
        _, state = next(batches)
    again = Loader(loader.plan, omni_pair[1], max_bad_share=1)
    again.load_state_dict(json.loads(json.dumps(state)))
    assert again.state_dict() == state
    with pytest.raises(TooManyBad, match=rf"all {again.counts.bad} of its samples .* are bad"):
        again.check_modalities(lambda mine: mine)
    del state["media"]  # as it was saved before modalities were counted
    again.load_state_dict(state)
    again.check_modalities(lambda mine: mine)


def test_ranks_are_looked_at_together():
    bad = {"vision": {"read": 2, "bad": 2, "first": "here"}}
    check_modalities([bad, {"vision": {"read": 1, "bad": 0, "first": ""}}], "the log")
    check_modalities([{}, {}], "the log")
    with pytest.raises(TooManyBad, match=r"all 4 of its samples .*here"):
        check_modalities([{}, bad, bad], "the log")


def test_a_stage_that_read_no_picture_is_not_saved(broken, specs, tmp_path):
    texts = [Sample([user(f"{n}?"), assistant("yes")], {}, META) for n in range(60)]
    pictures = [sample("vision", broken["vision"], n) for n in range(4)]
    write_shards([texts[0], *pictures], tmp_path / "pictures")  # a look at its first one is fine
    write_shards(texts, tmp_path / "texts")
    recipe = {
        "output": str(tmp_path / "run"), "text": "tiny:llama", "precision": "fp32",
        "sources": {n: [str(tmp_path / n / "train-*.tar")] for n in ("pictures", "texts")},
        "stages": [{
            "name": "only", "attach": {"vision": specs.vision}, "steps": 4,
            "trainable": {"projectors.vision": 1e-3},
            "data": {"mixture": {"pictures": 0.1, "texts": 0.9}, "batch_size": 8},
        }],
    }  # fmt: skip
    Path(tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    result = CliRunner().invoke(app, [str(tmp_path / "recipe.yaml")])
    assert result.exit_code == 2
    told = " ".join(result.output.split())
    assert "modality 'vision': all" in told
    assert "frozen parts unchanged" not in told
    assert not (tmp_path / "run" / "only").exists()
