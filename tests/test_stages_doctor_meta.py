"""The 7B recipe of Baichuan-Omni-1.5 as it will be, without its weights."""

import re
import subprocess
import sys
from collections import Counter
from importlib import resources

import pytest
import torch
from typer.testing import CliRunner

from omni.weights import WeightsError, resolve
from omni.weights.shapes import SHAPES, shape_of
from stages.cli import app
from stages.doctor.forecast import measure
from stages.doctor.meta import sketches
from stages.doctor.needs import needs_of
from stages.engine.kernels import wrap_layers
from stages.recipe.read import load_recipe
from stages.trainable.patterns import matches, part_of, set_trainable

RECIPE = "baichuan_omni_7b"
LLM, VIT, WHISPER = 7_615_616_512, 631_183_360, 636_968_960
VISION, AUDIO = 44_575_744, 97_007_104  # projectors
# stage of the paper -> what trains there at which rate (section 3.3, figure 5)
TRAINS = {
    "image_align": {"projectors.vision": 1e-3},
    "image_text": {"projectors.vision": 1e-5, "language_model": 1e-5, "encoders.vision": 1e-6},
    "audio_align": {"projectors.audio": 1e-4},
    "image_audio_text": {"projectors.vision": 1e-5, "projectors.audio": 1e-5,
                         "language_model": 1e-5},
    "omni": dict.fromkeys(("language_model", "encoders.vision", "encoders.audio",
                           "projectors.vision", "projectors.audio"), 4e-6),
}  # fmt: skip


def test_every_part_has_the_published_shape_and_every_stage_trains_what_the_paper_says():
    recipe = load_recipe(RECIPE)
    seen = {}
    for stage, model, _ in sketches(recipe):
        sizes, rates, frozen = Counter(), {}, set()
        for name, p in model.named_parameters():
            assert p.is_meta
            sizes[part_of(name)] += p.numel()
            if p.requires_grad:
                matching = [pattern for pattern in stage.trainable if matches(pattern, name)]
                rates[part_of(name)] = stage.trainable[matching[-1]]
            else:
                frozen.add(part_of(name))
        assert not frozen & rates.keys()  # a part trains as a whole or not at all
        if stage.name in TRAINS:
            assert rates == TRAINS[stage.name]
        seen[stage.name] = sizes
    first = {"language_model": LLM, "encoders.vision": VIT, "projectors.vision": VISION}
    assert [*seen] == [*TRAINS, "sft"]
    assert seen["image_align"] == seen["image_text"] == first
    assert seen["sft"] == first | {"encoders.audio": WHISPER, "projectors.audio": AUDIO}
    assert pytest.approx(675.8e6, rel=1e-3) == VIT + VISION  # the tower with Qwen2-VL's merger
    widths = [m for m in model.projectors["vision"].modules() if isinstance(m, torch.nn.Linear)]
    assert [(m.in_features, m.out_features) for m in widths] == [(5120, 5120), (5120, 3584)]
    assert [s.data.mixture for s in recipe.stages][3] == {"speech": 0.2, "images": 0.4, "text": 0.4}


def test_the_doctor_says_what_a_rank_needs_and_names_a_wrong_pattern():
    words = ["doctor", RECIPE, "--meta", "--ranks", "64", "--stage", "image_align"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert re.search(rf"projectors\.vision +{VISION:,} +{VISION:,}", result.stdout)
    assert "1120x560 pixels is 800 tokens of 3,200 cells" in result.stdout
    assert result.stdout.splitlines()[-1] == "go"
    wrong = "stages.image_align.trainable={projectors.visoin: 1}"
    for override, ranks, reason in (
        (wrong, "64", "pattern 'projectors.visoin' matches no parameter"),
        ("seed=1", "60", "packs of a step cannot be assigned equally to 60 ranks"),
        ("text=shape:Qwen/Qwen2.5-70B", "64", "part shape:Qwen/Qwen2.5-70B: unknown"),
    ):
        result = CliRunner().invoke(app, ["doctor", RECIPE, override, "--meta", "--ranks", ranks])
        assert result.exit_code == 1
        assert reason in result.stdout.splitlines()[-1]


SMALLER = {  # recipe -> part -> its published number of weights
    "one_gpu": {"language_model": 361_821_120, "encoders.vision": 93_520_128,
                "encoders.audio": 20_590_592},
    "llava_1b": {"language_model": 494_032_768, "encoders.vision": 428_225_600},
}  # fmt: skip


@pytest.mark.parametrize("name", SMALLER)
def test_recipes_on_public_parts_can_be_made_and_cost_what_they_say(name):
    result = CliRunner().invoke(app, ["doctor", name, "--meta"])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "go"
    for part, size in SMALLER[name].items():
        assert re.search(rf"{re.escape(part)} +{size:,}", result.stdout), part
    text = (resources.files("stages") / "recipes" / f"{name}.yaml").read_text()
    [hours] = map(float, re.findall(r"about (\d+) GPU-hours at 100 TFLOP/s", text))
    steps = [float(x.replace(",", "")) for x in re.findall(r"sft, ([\d,]+) steps", result.stdout)]
    each = [float(x) for x in re.findall(r"to ([\d.]+) PFLOP", result.stdout)]
    whole = sum(n * of for n, of in zip(steps, each, strict=True)) * 1e15
    assert whole / 100e12 / 3600 == pytest.approx(hours, rel=0.05)


def test_a_stage_whose_answers_are_drawn_has_no_forecast():
    words = ["doctor", "generalpoints_text", "text=tiny:llama", "--meta", "--stage", "rl"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "no forecast: its packs are of answers that are drawn" in result.stdout
    assert result.stdout.splitlines()[-1] == "go"


def test_ranks_go_with_meta():
    result = CliRunner().invoke(app, ["doctor", "tiny", "--ranks", "2"])
    assert result.exit_code == 2 and "--ranks goes with --meta" in result.stderr


def test_the_estimate_of_activations_is_near_what_is_kept(make_model, talks):
    said = {}
    for checkpointing in (False, True):
        recipe = load_recipe("tiny", [f"checkpointing={checkpointing}"])
        model, processor = make_model()
        [*_, stage] = recipe.stages
        set_trainable(model, {"language_model": 1e-3})
        row = processor.pack([processor.encode(talks[0])] * 8)
        stage.data.max_tokens = row["input_ids"].shape[1]
        said[checkpointing] = needs_of(recipe, stage, model, 1).memory.activations
        wrap_layers(model, compiled=False, checkpointing=checkpointing)
        _, kept = measure(model, "sft", dict(row), 0, half=False)
        if checkpointing:  # a layer that runs again is not counted in what was kept before
            assert kept < said[True] < said[False]
        else:
            assert 0.7 < said[False] / kept < 1.5


def test_a_shape_has_no_weights_to_train():
    assert shape_of("hub:Qwen/Qwen2.5-7B") == "shape:Qwen/Qwen2.5-7B"
    assert shape_of("hub:some/other") == "hub:some/other"
    for name in SHAPES:
        assert (resolve(f"shape:{name}", weights=False).folder / "config.json").is_file()
        with pytest.raises(WeightsError, match="has no weights to train; write hub:"):
            resolve(f"shape:{name}")


@pytest.mark.slow
def test_it_takes_less_than_a_minute_and_four_gigabytes():
    code = (
        "import resource, sys; from stages.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, "doctor", RECIPE, "--meta"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    seconds, most = map(float, done.stdout.splitlines()[-1].split())
    assert seconds < 60
    assert most < 4e9
