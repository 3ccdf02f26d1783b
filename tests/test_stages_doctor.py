"""The doctor's word: go where all is well, and no-go with the reason where it is not."""

import io

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from data_shards.read.encode import Encode
from data_shards.shards.sample import Sample
from data_shards.shards.write import write_shards
from omni import OmniForConditionalGeneration, OmniProcessor
from omni.processing.messages import assistant, audio, image, user
from stages.cli import app
from stages.doctor.comparison import packed_equals_unpacked
from stages.doctor.examine import draw, spans
from stages.doctor.forecast import Saved, memory_of
from stages.doctor.needs import needs_of
from stages.doctor.reference import sketch_reference
from stages.doctor.verdict import histogram, masked
from stages.objectives.task import Task
from stages.recipe.read import load_recipe
from stages.training.prepare import make_plan


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
    monkeypatch.setattr("stages.doctor.comparison.TOLERANCE", 1e-12)
    assert not packed_equals_unpacked(*pair, encoded).ok
    assert packed_equals_unpacked(*pair, encoded, dtype=torch.float64).difference < 1e-9


def test_documents_that_see_one_another_are_found(pair, encoded):
    def leaky(samples):
        row = pair[1].pack(samples)
        return row | {"position_ids": torch.arange(row["input_ids"].shape[1])[None]}

    assert not packed_equals_unpacked(*pair, encoded, leaky).ok


def test_media_in_another_order_are_found(pair, encoded):
    def shuffled(samples):
        row = pair[1].pack(samples)
        return row | {"pixel_values": row["pixel_values"].flip(0)}

    result = packed_equals_unpacked(*pair, encoded, shuffled)
    assert not result.ok
    assert result.difference > 1e-4


def test_nothing_to_compare_is_an_error(pair, encoded):
    with pytest.raises(ValueError, match="nothing trains"):
        packed_equals_unpacked(pair[0].requires_grad_(False), pair[1], encoded)


def test_the_doctor_draws_of_every_source(pair, shards):
    recipe = load_recipe("tiny", shards)
    plan = make_plan(recipe, recipe.stages[-1], pair[1], 1)
    for name in ("images", "spoken", "words", "text"):
        found, bad = draw(plan, name, Encode(pair[1]), 5)
        assert (len(found), bad) == (5, [])


def doctor(*arguments):
    return CliRunner().invoke(app, ["doctor", "tiny", *arguments])


def test_the_command_examines_a_recipe_that_was_never_run(shards, tmp_path):
    result = doctor(*shards, f"output={tmp_path / 'run'}")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[-1] == "go"
    for stage in ("vision_align: align, 8 steps", "audio_align", "omni: sft", "sft: sft"):
        assert any(line.startswith(stage) for line in lines)
    assert "encoders.vision: random weights" in result.stdout
    assert "packs: 2 a step, each of 4.0 documents" in result.stdout
    assert "vision: 64 placeholders, 64 features" in result.stdout
    assert "<|vision|>x4<|audio|>x17<|im_end|>" in result.stdout
    assert "«blue<|im_end|>»" in result.stdout  # a label
    assert "with an empty feature cache (memory)" in result.stdout
    assert "packed equals unpacked, torch.float32: loss per label" in result.stdout
    assert "\x1b" not in result.stdout  # no terminal, no colours
    assert not (tmp_path / "run").exists()
    wrong = doctor("--stage", "stf", *shards)
    assert wrong.exit_code == 2
    assert "no stage 'stf' in the recipe; stages: vision_align" in wrong.stderr


def verdict(result, stage="omni"):
    assert result.exit_code == 1, result.output
    last = result.stdout.splitlines()[-1]
    assert last.startswith(f"no-go: {stage}: ")
    return last


def test_a_packer_that_lets_documents_see_one_another_is_no_go(shards, monkeypatch):
    real = OmniProcessor.pack

    def leaky(self, samples):
        row = real(self, samples)
        return row | {"position_ids": torch.arange(row["input_ids"].shape[1])[None]}

    monkeypatch.setattr(OmniProcessor, "pack", leaky)
    assert "packing changes the training" in verdict(doctor("--stage", "omni", *shards))


def test_a_model_that_makes_other_counts_of_features_is_no_go(shards, monkeypatch):
    real = OmniForConditionalGeneration.encode
    monkeypatch.setattr(
        OmniForConditionalGeneration, "encode", lambda self, *media: real(self, *media)[1:]
    )
    found = verdict(doctor("--stage", "vision_align", *shards), "vision_align")
    assert "32 vision placeholders for 24 features" in found


def test_sources_that_lose_many_samples_are_no_go_with_the_reason(shards):
    result = doctor("--stage", "vision_align", *shards, "stages.vision_align.data.max_length=60")
    found = verdict(result, "vision_align")
    assert "source 'captions': 38% of its samples are left out, such as" in found
    assert "tokens, max_length is 60" in found
    assert "skipped: 3 (37.5%), the first: " in result.stdout
    none = doctor("--stage", "vision_align", *shards, "stages.vision_align.data.max_length=9")
    assert "every one of its 8 samples is longer" in verdict(none, "vision_align")
    cut = doctor("--stage", "vision_align", *shards, "stages.vision_align.data.max_length=60",
                 "stages.vision_align.data.overlong=truncate")  # fmt: skip
    assert cut.exit_code == 0, cut.output
    assert "truncated: 3 (37.5%)" in cut.stdout


def test_a_source_without_answers_is_no_go(shards, tmp_path):
    silent = [Sample([user(f"{n} plus 1?")], {}, {"source": "x", "license": "x", "schema": 1})
              for n in range(6)]  # fmt: skip
    write_shards(silent, tmp_path / "silent")
    result = doctor("--stage", "omni", *shards, f"sources.text=[{tmp_path}/silent/train-*.tar]")
    found = verdict(result)
    assert "source 'text': none of its first 6 samples can be used" in found
    assert "no assistant turn" in found


@pytest.mark.parametrize("leaks", [False, True])
def test_experts_without_float64_are_compared_in_float32(shards, monkeypatch, leaks):
    real = OmniProcessor.pack

    def leaky(self, samples):
        row = real(self, samples)
        return row | {"position_ids": torch.arange(row["input_ids"].shape[1])[None]}

    monkeypatch.setattr("stages.doctor.comparison.TOLERANCE", 1e-12)  # as if it were deep
    if leaks:
        monkeypatch.setattr(OmniProcessor, "pack", leaky)
    result = doctor("--stage", "omni", *shards, "text=tiny:mixtral")
    assert result.exit_code == leaks, result.output
    assert "note: this model does not run in float64 (Expected mat_a to be Float32" in result.stdout
    assert "may differ by 0.001 in float32 instead of" in result.stdout
    assert ("packing changes the training" in result.stdout) == leaks


def test_too_little_memory_is_no_go_before_and_after_a_pack_was_measured(shards, monkeypatch):
    monkeypatch.setattr("stages.doctor.forecast.available", lambda device: 1 << 20)
    found = verdict(doctor("--stage", "omni", *shards))
    assert "needs 287.3 MB of memory, 2.7 MB are there" in found
    monkeypatch.setattr("stages.doctor.forecast.available", lambda device: 286_000_000)
    result = doctor("--stage", "omni", *shards)
    assert "of memory, 287.6 MB are there" in verdict(result)
    assert "activations" in result.stdout


def test_missing_shards_are_among_the_reasons(shards, tmp_path):
    result = doctor(*shards, f"sources.captions=[{tmp_path}/none-*.tar]")
    assert result.exit_code == 1
    last = result.stdout.splitlines()[-1]
    assert f"vision_align: no shard matches '{tmp_path}/none-*.tar'" in last
    assert "; omni: " in last
    assert "; audio_align: " not in last


def test_memory_of_a_graph_is_counted_once_and_without_weights():
    weight = torch.nn.Linear(8, 8, bias=False)
    x = torch.ones(4, 8)
    with Saved(weight) as saved:
        y = weight(x).tanh()
        (y * y).sum()
    assert sum(saved.storages.values()) == x.nbytes + y.nbytes  # y for tanh and for the product


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(
    "objective",
    ["sft", {"kind": "sft", "keep": 0.5}, "dpo", "hs_dpo", "spin", {"kind": "grpo", "kl": 0.1}],
)
def test_what_an_objective_keeps_beside_the_model_is_forecast(pair, objective, stored):
    recipe = load_recipe("tiny", [f"reference={'stored' if stored else 'model'}"])
    [*_, stage] = recipe.stages
    stage.objective, model = objective, pair[0]
    scored = stored and objective in ("dpo", "hs_dpo", "spin")  # once, before the stage
    task = Task(model, objective, stored=scored)
    kept = sum(p.nbytes for p in task.parameters()) - sum(p.nbytes for p in model.parameters())
    sketch = sketch_reference(recipe, stage, model)
    assert sketch is None or all(p.is_meta for p in sketch.parameters())
    with_buffers = kept + sum(b.nbytes for b in task.extra.buffers()) if task.extra else 0
    device = torch.device("cpu")
    plain, found = memory_of(model, None, 0, device), memory_of(model, sketch, 0, device)
    assert found.reference == found.needed - plain.needed == with_buffers
    assert needs_of(recipe, stage, model, 1).memory.reference == kept
    assert bool(kept) == (objective != "sft" and not scored)
    assert not any(p.is_meta for p in model.parameters())


def test_the_doctor_counts_the_model_that_answers_are_kept_from(shards):
    keep = "stages.sft.objective={kind: sft, keep: 0.5}"
    for more, there in (([], False), ([keep], True)):
        result = doctor("--stage", "sft", *shards, *more)
        assert result.exit_code == 0, result.output
        [line] = [line for line in result.stdout.splitlines() if line.startswith("memory: ")]
        assert ("reference 0." in line) == there, line


def test_lengths_are_drawn_as_bars():
    assert histogram(np.array([1, 1, 1, 1, 25])) == "█" + 22 * " " + "▂"


def test_labels_are_coloured_where_there_are_colours(omni_pair, make_picture):
    processor = omni_pair[1]
    encoded = processor.encode([user(image(make_picture(0)), "What?"), assistant("Red.")])
    colours = Console(force_terminal=True, color_system="truecolor", file=io.StringIO())
    text = masked(spans(encoded, processor), colours)
    assert text.plain.strip() == (
        "<|im_start|>user\\n<|vision|>x4What?<|im_end|>\\n<|im_start|>assistant\\nRed.<|im_end|>"
    )
    green = [text.plain[s.start : s.end] for s in text.spans if "green" in str(s.style)]
    assert green == ["Red.<|im_end|>"]


def test_a_template_without_an_end_marker_is_noted(shards, make_model, tmp_path):
    model, processor = make_model()
    processor.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
    processor.chat_template += "{% if add_generation_prompt %}[assistant]{% endif %}"
    for part in (model, processor):
        part.save_pretrained(tmp_path)
    without = doctor("--stage", "omni", *shards, f"text={tmp_path}").stdout
    assert "note: the chat template prints nothing after an answer" in without
    assert "note:" not in doctor("--stage", "omni", *shards).stdout
