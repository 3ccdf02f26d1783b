"""The doctor's word: packing changes nothing, and where it would, that is seen."""

import pytest
import torch
from typer.testing import CliRunner

from omni.messages import assistant, audio, image, user
from stages.cli import app
from stages.doctor import draw, packed_equals_unpacked
from stages.prepare import make_plan
from stages.recipe import load_recipe


@pytest.fixture
def pair(make_model, specs):
    """Return a model of its own, all of which trains, and its processor."""
    model, processor = make_model(vision=specs.vision, audio=specs.audio)
    return model.requires_grad_(True), processor


@pytest.fixture
def encoded(pair, make_picture, make_sound):
    """Return documents of text, of images, of sounds, and of all of them."""
    talks = [
        [user("Two plus two?"), assistant("Four.")],
        [user(image(make_picture(0)), "What is it?"), assistant("Squares.")],
        [user(audio(make_sound(0.7)), "And this?"), assistant("A tone.")],
        [user(image(make_picture(1)), audio(make_sound(1.9)), image(make_picture(2))),
         assistant("All."), user("Sure?"), assistant("Yes.")],
    ]  # fmt: skip
    return [pair[1].encode(talk) for talk in talks]


def test_packed_equals_unpacked_for_text_images_and_audio(pair, encoded):
    result = packed_equals_unpacked(*pair, encoded)
    assert result.ok, result
    assert result.packed > 1
    assert result.difference <= 1e-5
    assert all(p.grad is None for p in pair[0].parameters())


def test_float64_tells_rounding_from_leaking(pair, encoded, monkeypatch):
    monkeypatch.setattr("stages.doctor.TOLERANCE", 1e-12)
    assert not packed_equals_unpacked(*pair, encoded).ok
    assert packed_equals_unpacked(*pair, encoded, dtype=torch.float64).difference < 1e-9


def test_documents_that_see_one_another_are_found(pair, encoded):
    def leaky(samples):
        row = pair[1].pack(samples)
        return row | {"position_ids": torch.arange(row["input_ids"].shape[1])[None]}

    assert not packed_equals_unpacked(*pair, encoded, leaky).ok


def test_media_in_another_order_are_found(pair, encoded):
    def swapped(samples):
        row = pair[1].pack(samples)
        return row | {"pixel_values": row["pixel_values"].flip(0)}

    result = packed_equals_unpacked(*pair, encoded, swapped)
    assert not result.ok
    assert result.difference > 1e-4


def test_nothing_to_compare_is_an_error(pair, encoded):
    with pytest.raises(ValueError, match="nothing trains"):
        packed_equals_unpacked(pair[0].requires_grad_(False), pair[1], encoded)


def test_the_doctor_draws_of_every_source(pair, shards):
    recipe = load_recipe("tiny", shards)
    found, sources, bad = draw(make_plan(recipe, recipe.stages[-1], pair[1], 1), pair[1], 8)
    assert (len(found), bad) == (8, [])
    assert sources == {"images": 2, "spoken": 2, "words": 2, "text": 2}


def test_the_command_examines_a_recipe_that_was_never_run(shards, tmp_path):
    result = CliRunner().invoke(app, ["doctor", "tiny", *shards, f"output={tmp_path / 'run'}"])
    assert result.exit_code == 0, result.output
    assert "sft: 8 documents" in result.stdout
    assert "torch.float32, tolerance 1e-05: loss per label" in result.stdout
    assert "ok: packed equals unpacked" in result.stdout
    wrong = CliRunner().invoke(app, ["doctor", "tiny", "--stage", "stf", *shards])
    assert wrong.exit_code == 2
    assert "no stage 'stf' in the recipe; stages: vision_align" in wrong.stderr
