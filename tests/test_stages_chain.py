"""The shipped tiny recipe through the real commands: chain, resume, refusal, several ranks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from typer.testing import CliRunner

from omni import OmniForConditionalGeneration, OmniProcessor
from omni.generation.answer import answer
from omni.generation.settings import Generation
from omni.load import CheckpointError, load
from omni.processing.messages import image, user
from stages.cli import app
from stages.recipe.read import load_recipe
from stages.training.chain import run_recipe

STAGES = ("vision_align", "audio_align", "omni", "sft")


def train(*arguments: str):
    return CliRunner().invoke(app, ["tiny", *arguments])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(a: Path, b: Path) -> bool:
    one, other = weights(a), weights(b)
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def log(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def chain(shards, tmp_path_factory):
    """Train all four stages once; the folder is shared and not to be changed."""
    run = tmp_path_factory.mktemp("runs") / "chain"
    result = train(*shards, f"output={run}")
    assert result.exit_code == 0, result.output
    return run


@pytest.fixture
def copy(chain, tmp_path):
    """Give a copy of the trained chain that a test may damage."""
    return Path(shutil.copytree(chain, tmp_path / "chain"))


def test_every_stage_learns_and_leaves_the_rest_alone(chain):
    rows = log(chain)
    for name in STAGES:
        facts = json.loads((chain / name / "stage.json").read_text())
        losses = [row["loss"] for row in rows if row.get("stage") == name and "step" in row]
        assert len(losses) == facts["steps"] == 8
        assert sum(losses[-3:]) < sum(losses[:3]), (name, losses)
        assert facts["frozen_ok"] is True
        assert facts["frozen"]
        assert list((chain / "tensorboard" / name).glob("events.*"))
    ends = [row for row in rows if row.get("event") == "stage_end"]
    assert [row["name"] for row in ends] == list(STAGES)
    assert all(row["frozen_ok"] and row["tokens"] > 0 for row in ends)


# of each step, as they were recorded; what is built around the training must not move them
LOSSES = {
    "vision_align": [10.9002, 9.9201, 6.8179, 8.4917, 6.7207, 7.6468, 6.9734, 5.6608],
    "audio_align": [59.7428, 48.9986, 15.0778, 15.3696, 12.0137, 8.5608, 8.5728, 10.4889],
    "omni": [5.5796, 5.4146, 5.2859, 5.1608, 5.1142, 5.0075, 5.0333, 4.967],
    "sft": [4.9639, 4.9031, 4.7103, 4.5889, 4.5915, 4.4524, 4.5069, 4.3576],
}


@pytest.mark.parametrize("stage", STAGES)
def test_the_losses_are_those_of_the_record(chain, stage):
    losses = [row["loss"] for row in log(chain) if row.get("stage") == stage and "step" in row]
    assert losses == pytest.approx(LOSSES[stage], rel=1e-3)


def test_what_a_stage_freezes_is_its_parents_to_the_bit(chain):
    trained = {"audio_align": ("projectors.audio.",), "omni": ("projectors.", "language_model."),
               "sft": ("projectors.", "language_model.")}  # fmt: skip
    for parent, child in pairwise(STAGES):
        before, after = weights(chain / parent), weights(chain / child)
        moved = {n for n in before if not torch.equal(before[n], after[n])}
        assert all(n.startswith(trained[child]) for n in moved), (child, moved)
        assert bool(moved) == (child != "audio_align")  # there, all that trains is new


def test_the_checkpoint_answers_in_a_few_lines(chain, make_picture):
    model = OmniForConditionalGeneration.from_pretrained(chain / "sft").eval()
    processor = OmniProcessor.from_pretrained(chain / "sft")
    [text] = answer(model, processor, [[user(image(make_picture(0)), "What?")]], Generation(4))
    assert isinstance(text, str)
    assert set(model.config.parts) >= {"text"}


def test_running_it_again_does_nothing(chain, shards):
    files = {p: p.stat().st_mtime_ns for p in chain.rglob("*.safetensors")}
    result = train(*shards, f"output={chain}")
    assert result.exit_code == 0
    assert result.stdout.count("finished already") == 4
    assert {p: p.stat().st_mtime_ns for p in chain.rglob("*.safetensors")} == files


def fail() -> None:
    raise FloatingPointError("the machine went away")


@pytest.mark.parametrize("stage", ["vision_align", "sft"])
def test_a_crash_loses_nothing_but_the_steps_since_the_save(chain, copy, shards, stage, at_update):
    """Stop in the middle of a stage, go on, and end with the weights of a run never stopped."""
    for name in STAGES[STAGES.index(stage) :]:
        shutil.rmtree(copy / name)
    with at_update(6, fail):
        stopped = train("--stage", stage, *shards, f"output={copy}", "save_seconds=0", "threads=0")
    assert stopped.exit_code == 2
    assert "the machine went away" in stopped.stderr
    assert not (copy / stage).exists()
    resumed = train("--stage", stage, *shards, f"output={copy}", "threads=3")
    assert "resumed after step 5 of 8" in resumed.stdout, resumed.output
    assert same(copy / stage, chain / stage)
    then, now = (json.loads((r / stage / "stage.json").read_text()) for r in (chain, copy))
    assert now["totals"] == then["totals"]
    assert not list(copy.rglob("step-*"))


def test_sigterm_saves_before_it_stops(chain, shards, tmp_path, at_update):
    run, before = tmp_path / "run", signal.getsignal(signal.SIGTERM)
    arguments = ("--stage", "vision_align", *shards, f"output={run}")
    with at_update(3, lambda: os.kill(os.getpid(), signal.SIGTERM)):
        stopped = train(*arguments)
    assert stopped.exit_code == 128 + signal.SIGTERM
    assert "stopped after step 3; the same command goes on from here" in stopped.stdout
    assert signal.getsignal(signal.SIGTERM) is before
    assert "resumed after step 3 of 8" in train(*arguments).stdout
    assert same(run / "vision_align", chain / "vision_align")


@pytest.mark.slow
def test_kill_9_loses_at_most_the_step_under_way(shards, tmp_path):
    run = tmp_path / "run"
    arguments = ["--stage", "vision_align", *shards, f"output={run}", "save_seconds=0",
                 "stages.vision_align.steps=60"]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "stages.cli", "tiny", *arguments],
                               stdout=subprocess.DEVNULL)  # fmt: skip
    try:
        for _ in range(6000):
            if process.poll() is not None or len(list(run.glob("**/step-*/state.json"))):
                break
            time.sleep(0.05)
    finally:
        process.kill()
    assert process.wait(timeout=30) == -signal.SIGKILL
    assert not (run / "vision_align").exists()
    resumed = train(*arguments)
    assert "resumed after step" in resumed.stdout, resumed.output
    steps = [row["step"] for row in log(run) if "step" in row]
    assert sorted(set(steps)) == list(range(1, 61))
    assert len(steps) <= 61
    assert not list(run.rglob("*.partial"))


def test_another_setting_is_refused_by_name(copy, shards):
    result = train(*shards, f"output={copy}", "stages.omni.trainable.projectors=1e-5")
    assert result.exit_code == 2
    assert "made with trainable =" in result.stderr
    assert "--redo omni" in result.stderr and "--fresh" in result.stderr


@pytest.mark.parametrize("change", ["stages.omni.trainable.projectors=1e-5",
                                    "attention=flex_attention", "trackers=[wandb]"])  # fmt: skip
def test_a_command_that_is_refused_leaves_the_run_as_it_is(copy, shards, change, monkeypatch):
    monkeypatch.setattr("stages.training.trainer.make_model", None)  # nothing is loaded
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(copy / "none"))
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()}
    result = train(*shards, f"output={copy}", change)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ") and len(result.stderr.splitlines()) == 1
    after = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()}
    assert {p: t for p, t in after.items() if p.suffix != ".lock"} == {
        p: t for p, t in before.items() if p.suffix != ".lock"
    }


def test_redo_trains_a_stage_and_all_later_ones_again(copy, shards):
    before = {name: weights(copy / name) for name in STAGES}
    result = train("--redo", "omni", *shards, f"output={copy}", "stages.omni.steps=2")
    assert result.exit_code == 0, result.output
    old = copy.with_name("chain.old0")
    for name in STAGES:
        same_ = {k: torch.equal(v, before[name][k]) for k, v in weights(copy / name).items()}
        assert all(same_.values()) == (name in ("vision_align", "audio_align")), name
    assert same(old / "sft", old / "sft") and sorted(weights(old / "omni")) == sorted(
        before["omni"]
    )
    assert all(torch.equal(v, before["omni"][k]) for k, v in weights(old / "omni").items())
    steps = [row["step"] for row in log(copy) if row.get("stage") == "omni" and "step" in row]
    assert steps == [1, 2]
    assert {row["stage"] for row in log(old) if "step" in row} == {"omni", "sft"}
    assert [row for row in log(copy) if row.get("stage") == "vision_align"]
    again = train("--redo", "sft", "--stage", "sft", *shards, f"output={copy}",
                  "stages.omni.steps=2")  # fmt: skip
    assert again.exit_code == 0 and copy.with_name("chain.old1").is_dir()
    assert same(copy / "sft", copy.with_name("chain.old1") / "sft")


def test_a_stage_needs_its_parent(copy, shards):
    shutil.rmtree(copy / "omni")
    shutil.rmtree(copy / "sft")
    result = train("--stage", "sft", *shards, f"output={copy}")
    assert result.exit_code == 2
    assert f"starts from {copy / 'omni'}, which is not there" in result.stderr


def test_an_unknown_stage_lists_the_stages(shards, tmp_path):
    result = train("--stage", "stf", *shards, f"output={tmp_path / 'x'}")
    assert result.exit_code == 2
    assert "no stage 'stf' in the recipe; stages: vision_align, audio_align" in result.stderr


def test_an_unknown_module_pattern_is_one_line(shards, tmp_path):
    result = train(*shards, f"output={tmp_path / 'x'}", "stages.vision_align.trainable={eyes: 1}")
    assert result.exit_code == 2
    assert "'eyes' matches no parameter" in result.stderr


def test_a_source_without_shards_is_one_line(shards, tmp_path):
    result = train(*shards, f"output={tmp_path / 'x'}", "sources.captions=[/nowhere/*.tar]")
    assert result.exit_code == 2
    assert "/nowhere/*.tar" in result.stderr


@pytest.mark.parametrize("damage", ["weights", "config", "processor"])
def test_a_half_written_checkpoint_is_refused(copy, damage):
    file = copy / "sft" / {"weights": "model.safetensors", "config": "config.json",
                           "processor": "processor_config.json"}[damage]  # fmt: skip
    if damage == "weights":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    else:
        file.unlink()
    with pytest.raises(CheckpointError, match=str(copy / "sft")):
        load(copy / "sft")


def test_a_half_written_parent_stops_the_chain_with_one_line(copy, shards):
    file = copy / "omni" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    shutil.rmtree(copy / "sft")
    result = train(*shards, f"output={copy}")
    assert result.exit_code == 2
    assert "damaged or half written" in result.stderr


def test_accumulation_equals_a_larger_batch(chain, shards, tmp_path, monkeypatch):
    """The loss is divided by the labels of the whole global batch, wherever its cuts are."""
    # Adam would hide a wrong scale of the gradient
    monkeypatch.setattr(torch.optim, "AdamW", lambda groups, **_: torch.optim.SGD(groups))
    ends = {}
    for size, accumulate in ((8, 1), (4, 2)):
        run = tmp_path / f"{size}x{accumulate}"
        recipe = load_recipe("tiny", [
            *shards, f"output={run}", f"text={chain / 'omni'}",
            f"stages.sft.data.batch_size={size}",
            f"stages.sft.data.accumulate={accumulate}", "stages.sft.steps=3",
            "stages.sft.clip=1e6", "stages.sft.trainable={projectors: 0.1, language_model: 0.1}",
        ])  # fmt: skip
        recipe.stages = [s for s in recipe.stages if s.name == "sft"]
        run_recipe(recipe, Accelerator(cpu=True))
        ends[accumulate] = weights(run / "sft"), [r["loss"] for r in log(run) if "loss" in r]
    assert ends[1][1] == pytest.approx(ends[2][1], abs=1e-5)
    start = weights(chain / "omni")
    assert max((value - start[n]).abs().max() for n, value in ends[1][0].items()) > 1e-2
    for name, value in ends[1][0].items():
        torch.testing.assert_close(ends[2][0][name], value, atol=1e-5, rtol=1e-4)


def test_statistics_that_move_stop_the_stage(shards, tmp_path, monkeypatch):
    """A frozen batch norm in training mode is not saved as if nothing had happened."""
    monkeypatch.setattr(OmniForConditionalGeneration, "train", torch.nn.Module.train)
    spec = ("stages.vision_align.attach.vision.encoder="
            "{kind: timm, architecture: test_efficientnet, image_size: 64}")  # fmt: skip
    result = train("--stage", "vision_align", *shards, f"output={tmp_path / 'x'}", spec,
                   "stages.vision_align.steps=1", "feature_cache_mb=0")  # fmt: skip
    assert result.exit_code == 2
    assert "frozen tensors changed in encoders.vision" in result.stderr
    assert not (tmp_path / "x" / "vision_align").exists()
    ends = [row for row in log(tmp_path / "x") if row.get("event") == "stage_end"]
    assert [row["frozen_ok"] for row in ends] == [False]


def test_a_loss_that_is_not_finite_names_the_samples(shards, tmp_path):
    result = train(*shards, f"output={tmp_path / 'x'}", "stages.vision_align.trainable="
                   "{projectors.vision: 1.0e+30}", "stages.vision_align.warmup=0.1")  # fmt: skip
    assert result.exit_code == 2
    assert "train-000000.tar:" in result.stderr
    assert "nothing was updated" in result.stderr


def test_the_commands_measure_the_chain_and_report_it(chain, shards, tmp_path):
    from eval.cli import app as evaluate

    held_out = Path(shards[0].partition("=[")[2]).parent.parent  # the folder of all sources
    out = chain / "eval"
    done = CliRunner().invoke(
        evaluate,
        [str(chain / "sft"), "--data", str(held_out), "--out", str(out), "--rows",
         "category,spoken_word", "--parent", "tiny:llama"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    reported = CliRunner().invoke(app, ["report", str(chain), str(chain)])
    assert reported.exit_code == 0, reported.output
    report = json.loads((chain / "report.json").read_text())
    assert [stage["name"] for stage in report["stages"]] == list(STAGES)
    assert all(stage["frozen_ok"] and stage["seconds"] > 0 for stage in report["stages"])
    rows = {row["name"]: row for row in report["rows"]}
    assert 0 <= rows["category"]["ci_low"] <= rows["category"]["score"] <= 100
    assert rows["spoken_word"]["score"] is None  # no such shards here: missing, not zero
    assert report["category_accuracy"] == rows["category"]["score"]
    assert report["category_accuracy_shuffled_images"] is not None
    assert report["text_drift"] > 0  # the LLM was trained
    assert report["peak_rss_gb"] > 0.1
    assert "| category_accuracy | " in reported.output
    card = (chain / "sft" / "README.md").read_text()
    assert "| sft | " in card
    assert f"| category | {rows['category']['score']} | " in card
    missing = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert missing.exit_code == 2
    assert "no recipe.yaml" in missing.output


def test_measuring_a_damaged_checkpoint_is_one_line(copy, shards, tmp_path):
    from eval.cli import app as evaluate

    file = copy / "sft" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    data = str(Path(shards[0].partition("=[")[2]).parent.parent)
    result = CliRunner().invoke(
        evaluate, [str(copy / "sft"), "--data", data, "--out", str(tmp_path)]
    )
    assert result.exit_code == 2
    assert "damaged or half written" in result.output


def test_rebuilt_shards_are_not_taken_for_those_of_a_finished_stage(copy, shards):
    manifest = Path(shards[0].partition("=[")[2]).parent / "manifest.json"
    before = manifest.read_text()
    try:
        manifest.write_text(before.replace('"heldout": ', '"heldout":  '))
        result = train(*shards, f"output={copy}")
    finally:
        manifest.write_text(before)
    assert result.exit_code == 2
    assert "made with shards = " in result.output


def test_a_second_run_waits_for_the_first(chain, shards):
    import threading

    from omni.files.lock import exclusive

    finished = []
    with exclusive(chain):
        thread = threading.Thread(
            target=lambda: finished.append(train(*shards, f"output={chain}").exit_code)
        )
        thread.start()
        thread.join(timeout=3)
        assert thread.is_alive()
    thread.join(timeout=60)
    assert finished == [0]


def test_pictures_of_the_training_are_not_evaluated_as_held_out(chain, tmp_path):
    from data_shards.shards.write import write_shards
    from data_shards.sources.base import Build
    from data_shards.sources.demo.shapes import Shapes
    from eval.rows.heldout import refuse_other_split

    parts = OmniForConditionalGeneration.from_pretrained(chain / "sft").config.parts
    write_shards(
        Shapes(count=16, variants=1, turns=1).generate(Build(seed=7)), tmp_path / "shapes",
        source="shapes",
    )  # fmt: skip
    with pytest.raises(ValueError, match="holds out other samples of 'shapes'"):
        refuse_other_split(parts | {"data.x": {"split": "shapes:0123"}}, tmp_path)
