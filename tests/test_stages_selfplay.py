"""Sources that a recipe's own stages make, up to two rounds of self-play (SPIN)."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_shards.read.entry import read_shard
from data_shards.shards.sample import Sample
from data_shards.shards.shard import find_shards
from data_shards.shards.write import write_shards
from omni.processing.messages import assistant, image, user
from stages.cli import app
from stages.sampling import sample as sampling

META = {"source": "t", "license": "MIT", "schema": 1}
PROMPTS = 6
RECIPE = """\
text: tiny:llama
output: ROOT/run
precision: fp32
threads: 0
trackers: []
sources:
  chat: [ROOT/chat/train-*.tar]
  own1: {sample: {from: sft, prompts: [ROOT/asks], n: 2, max_new_tokens: 6, pairs: spin}}
  own2:
    sample: {from: spin1, prompts: [ROOT/asks], n: 2, max_new_tokens: 6, pairs: spin, seed: 1}
stages:
  - name: sft
    attach:
      vision:
        encoder: {kind: timm, architecture: test_vit, image_size: 48,
                  model_args: {img_size: 48}}
        projector: {kind: patch_concat_mlp}
    trainable: {language_model: 1.0e-3}
    data: {mixture: {chat: 1}, max_length: 300, batch_size: 6}
    steps: 2
  - name: spin1
    trainable: {language_model: 1.0e-3}
    data: {mixture: {own1: 1}, max_length: 300, batch_size: 6}
    objective: {kind: spin, beta: 0.5}
    steps: 4
  - name: spin2
    trainable: {language_model: 1.0e-3}
    data: {mixture: {own1: 1, own2: 1}, max_length: 300, batch_size: 6}
    objective: {kind: spin, beta: 0.5}
    steps: 4
"""


def write_chat(folder: Path, make_picture, ask: str = "What") -> None:
    write_shards([
        Sample([user(image("img0.png"), f"{ask}, {n}?"), assistant(f"It is {n}.")],
               {"img0.png": make_picture(n)}, META | {})
        for n in range(PROMPTS)
    ], folder)  # fmt: skip


@pytest.fixture
def play(tmp_path, make_picture):
    """Return a function: what of the recipe, and what is written instead -> a run of it."""
    write_chat(tmp_path / "chat", make_picture)
    write_chat(tmp_path / "asks", make_picture)

    def run(old: str = "", new: str = "", *more: str, rounds: int = 2):
        whole = RECIPE if rounds == 2 else RECIPE.partition("  - name: spin2")[0]
        assert old in whole
        path = tmp_path / "my.yaml"
        path.write_text(whole.replace(old, new, 1).replace("ROOT", str(tmp_path)))
        return CliRunner().invoke(app, [str(path), *more])

    return run


def pairs(folder: Path) -> list[Sample]:
    return [sample for path in find_shards(folder) for sample in read_shard(path)]


def steps_of(run: Path) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for line in (run / "log.jsonl").read_text().splitlines():
        row = json.loads(line)
        if "step" in row:
            found.setdefault(row["stage"], []).append(row)
    return found


def test_each_round_plays_against_the_stage_before(play, tmp_path):
    result = play()
    assert result.exit_code == 0, result.output
    run = tmp_path / "run"
    assert f"own1: sampled from sft: {2 * PROMPTS} answers; 0 prompts left out; 0" in result.output
    made = {n: json.loads((run / "sampled" / n / "manifest.json").read_text())
            for n in ("own1", "own2")}  # fmt: skip
    assert made["own1"]["weights"] != made["own2"]["weights"]  # another opponent
    assert (made["own1"]["pairs"], made["own1"]["generation"]["n"]) == ("spin", 2)
    for sample in pairs(run / "sampled" / "own1"):
        assert [*sample.parts] == ["img0.png"] and sample.meta["license"] == "MIT"
        assert sample.chosen and sample.rejected and sample.chosen != sample.rejected
        assert sample.chosen[0]["content"][0]["text"].startswith("It is ")
    steps = steps_of(run)
    for stage in ("spin1", "spin2"):  # the opponent is where the stage begins
        assert steps[stage][0]["loss"] == pytest.approx(0.693147, abs=1e-5)
        assert steps[stage][0]["rewards.margin"] == pytest.approx(0, abs=1e-5)
        assert steps[stage][-1]["rewards.margin"] > 0.05
    again = play()
    assert again.exit_code == 0 and "sampled from" not in again.output


@pytest.mark.slow
def test_answers_are_kept_until_what_they_follow_from_changes(play, tmp_path, make_picture,
                                                             monkeypatch):  # fmt: skip
    assert play().exit_code == 0
    calls, complete = [], sampling.complete
    monkeypatch.setattr(sampling, "complete", lambda *a, **k: calls.append(1) or complete(*a, **k))
    assert play("", "", "--redo", "spin1").exit_code == 0
    assert len(calls) == 0  # the same weights again
    result = play("", "", "--redo", "spin1", "stages.spin1.steps=3")
    assert len(calls) == 1  # own1 is as it was; own2 is of the new spin1
    assert "own2: sampled anew, as the answers there are of other weights" in result.output
    result = play("n: 2, max_new_tokens: 6, pairs", "n: 1, max_new_tokens: 6, pairs")
    assert result.exit_code == 2 and "run/spin1: made with sources" in result.stderr
    fewer = "n: 2, max_new_tokens: 6, pairs", "n: 1, max_new_tokens: 6, pairs", "--redo", "spin1"
    result = play(*fewer, rounds=1)
    assert "own1: sampled anew, as the answers there are of other generation" in result.output
    assert len(pairs(tmp_path / "run" / "sampled" / "own1")) == PROMPTS
    write_chat(tmp_path / "asks", make_picture, "Which")
    assert play("n: 2", "n: 1", rounds=1).exit_code == 2
    result = play(*fewer, rounds=1)
    assert "sampled anew, as the answers there are of other prompts" in result.output


@pytest.mark.slow
def test_a_killed_run_goes_on_with_its_answers(play, tmp_path, monkeypatch):
    complete, calls = sampling.complete, []

    def killed(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise OSError("the machine went away")
        return complete(*args, **kwargs)

    monkeypatch.setattr(sampling, "complete", killed)
    assert play("pairs: spin}}", "pairs: spin, batch: 4}}", rounds=1).exit_code != 0
    result = play(rounds=1)  # eight at once now, which changes nothing
    assert result.exit_code == 0, result.output
    assert len(calls) == 2 + 1
    assert play("ROOT/run", "ROOT/whole", rounds=1).exit_code == 0
    texts = [[s.rejected for s in pairs(tmp_path / name / "sampled" / "own1")]
             for name in ("run", "whole")]  # fmt: skip
    assert texts[0] == texts[1]


MISTAKES = {
    "no stage": ("from: sft", "from: sfft", "own1: {", "no stage 'sfft' to sample from; did you "
                 "mean 'sft'"),
    "later stage": ("from: sft", "from: spin2", "own1: {", "stage 'spin1' is trained on what "
                    "'spin2' answers, which comes no earlier"),
    "itself": ("from: spin1", "from: spin2", "sample: {from: spin2", "stage 'spin2' is trained"),
    "key": ("seed: 1", "sede: 1", "sede", "unknown key 'sede'; did you mean 'seed'"),
    "no sample": ("own1: {sample", "own1: {sampel", "own1", "did you mean 'sample'"),
    "value": ("seed: 1", "seed: -1", "seed: -1", "seed must be a whole number from 0, not -1"),
    "temperature": ("seed: 1", "temperature: hot", "hot", "temperature must be a number"),
    "pairs": ("pairs: spin, seed", "pairs: spni, seed", "spni", "pairs is spin, hard or left"),
    "required": ("from: sft, ", "", "own1", "the key 'from' is required"),
    "prompts": ("sft, prompts: [ROOT/asks]", "sft, prompts: ROOT/asks", "own1", "a list of shards"),
    "no prompts": ("sft, prompts: [ROOT/asks]", "sft, prompts: [ROOT/akss]", "own1",
                   "no shard matches"),
    "no list": ("[ROOT/chat/train-*.tar]", "7", "chat: 7", "7 is no source: write ["),
    "no pairs": ("max_new_tokens: 6, pairs: spin}}", "max_new_tokens: 6}}", "own1",
                 "add pairs: spin"),
    "pairs for sft": ("{kind: spin, beta: 0.5}", "sft", "own1", "it is a preference"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_named_before_anything_is_trained(play, tmp_path, kind):
    old, new, held, words = MISTAKES[kind]
    result = play(old, new)
    error = " ".join(result.stderr.split())
    assert result.exit_code == 2, result.output
    assert words in error
    lines = (tmp_path / "my.yaml").read_text().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if held in line)
    assert f"my.yaml:{number}:" in error
    assert not (tmp_path / "run" / "sft").exists()


def test_equal_answers_are_left_out_and_counted(play, tmp_path, monkeypatch):
    """The real answer of one prompt is what the stage answers to it; then, of all."""
    complete, count = sampling.complete, [1]

    def copied(*args, **kwargs):
        found = complete(*args, **kwargs)
        for n in range(2 * count[0]):
            found[n] = found[n]._replace(text=f"It is {n // 2}.")
        return found

    monkeypatch.setattr(sampling, "complete", copied)
    result = play(rounds=1)
    assert f"own1: sampled from sft: {2 * PROMPTS - 2} answers; 0 prompts left out; 2 equal" in (
        result.output
    )
    count[0] = PROMPTS
    result = play("", "", "--fresh", rounds=1)
    assert result.exit_code == 2
    assert f"no pair can be made: {2 * PROMPTS} answers equal the real ones" in result.stderr


def test_plan_and_doctor_say_that_answers_are_not_sampled_yet(play, tmp_path):
    assert play("", "", "--show").exit_code == 0
    for command in ("plan", "doctor"):
        result = CliRunner().invoke(app, [command, str(tmp_path / "my.yaml"), "--stage", "spin1"])
        assert "source 'own1' is what stage 'sft' answers" in " ".join(
            (result.stdout + result.stderr).split()
        )
        assert result.exit_code in (1, 2)
