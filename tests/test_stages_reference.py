"""What dpo compares with is scored once, kept, and never of another model or other data."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from data_shards.shards.sample import Sample
from data_shards.shards.write import write_shards
from omni.processing.messages import assistant, image, user
from stages.cli import app
from stages.training.reference import Reference

PAIRS, META = 12, {"source": "t", "license": "MIT", "schema": 1}
RECIPE = """\
text: tiny:llama
output: {root}/run
precision: fp32
threads: 0
trackers: []
sources: {{pairs: ["{root}/pairs/train-*.tar"]}}
stages:
  - name: prefer
    attach:
      vision:
        encoder: {{kind: timm, architecture: test_vit, image_size: 48,
                  model_args: {{img_size: 48}}}}
        projector: {{kind: patch_concat_mlp}}
    trainable: {{projectors: 1.0e-3, language_model: 1.0e-3}}
    data: {{mixture: {{pairs: 1}}, max_length: 400, batch_size: 4}}
    objective: {{kind: dpo, beta: 0.5}}
    steps: 5
"""


def write_pairs(folder: Path, make_picture, chosen: str = "This one.") -> None:
    """Write pairs; a quarter of their prompts are hard."""
    write_shards([
        Sample([user(image("img0.jpg"), f"Which, {n}?")], {"img0.jpg": make_picture(n)},
               META | {"k_correct": 1 if n < 3 else 3, "k_incorrect": 3 if n < 3 else 1},
               split="train" if n < PAIRS else "heldout",
               chosen=[assistant(chosen)], rejected=[assistant("That other.")])
        for n in range(PAIRS + 4)
    ], folder)  # fmt: skip


@pytest.fixture
def prefer(tmp_path, make_picture):
    """Return a function that trains with dpo on pairs about pictures."""
    write_pairs(tmp_path / "pairs", make_picture)
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(root=tmp_path))

    def run(*overrides: str):
        return CliRunner().invoke(app, [str(tmp_path / "recipe.yaml"), *overrides])

    return run


def steps_of(run: Path) -> list[dict]:
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if "step" in row]


def scored(run: Path) -> list[dict]:
    files = (run / "reference").glob("*/rank-*.jsonl")
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def test_the_store_is_the_frozen_copy(prefer, tmp_path):
    """Loss, rewards and log-probabilities agree; twelve pairs in five steps of four."""
    result = prefer()
    assert result.exit_code == 0, result.output
    assert f"reference: {PAIRS} samples to score" in result.output
    assert sorted(row["row"] for row in scored(tmp_path / "run")) == [*range(PAIRS)]
    assert prefer(f"output={tmp_path / 'copy'}", "reference=model").exit_code == 0
    assert not (tmp_path / "copy" / "reference").exists()
    ours, copy = steps_of(tmp_path / "run"), steps_of(tmp_path / "copy")
    assert ours[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert ours[-1]["rewards.margin"] > 0.1 and ours[-1]["rewards.accuracy"] == 1
    for one, other in zip(ours, copy, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-6)
        for name in (n for n in one if n.startswith(("rewards.", "logps."))):
            assert one[name] == pytest.approx(other[name], abs=2e-5)
    images = {row["images"] for row in ours}
    assert images == {4}  # of four pairs


def test_what_is_scored_is_not_scored_again_and_never_stale(prefer, tmp_path, make_picture):
    """Other weights, another processor, other shards: each is a folder of its own."""
    assert prefer().exit_code == 0
    again = prefer("--redo", "prefer", "stages.prefer.objective.beta=0.2")
    assert "reference: 0 samples to score" in again.output
    changes = {
        "weights": ["seed=1"],
        "processor": ["stages.prefer.attach.vision.encoder.image_size=32",
                      "stages.prefer.attach.vision.encoder.model_args.img_size=32"],
    }  # fmt: skip
    for overrides in changes.values():
        result = prefer("--redo", "prefer", "stages.prefer.steps=3", *overrides)
        assert f"reference: {PAIRS} samples to score" in result.output, result.output
    write_pairs(tmp_path / "pairs", make_picture, "This one is it.")
    result = prefer("--redo", "prefer", "stages.prefer.steps=3")
    assert f"reference: {PAIRS} samples to score" in result.output
    folders = [*(tmp_path / "run" / "reference").iterdir()]
    assert len(folders) == 4
    facts = [json.loads((folder / "about.json").read_text()) for folder in folders]
    assert len({fact["weights"] for fact in facts}) > 1 and len({f["shards"] for f in facts}) == 2


@pytest.mark.parametrize(("kind", "first"), [("hs_dpo", 0.9), ("spin", 1.0)])
def test_other_objectives_use_it_and_held_out_pairs_are_compared(prefer, tmp_path, kind, first):
    """At step 1 a pair costs alpha ln 2; after it, the held-out ones cost less than ln 2."""
    result = prefer(
        f"stages.prefer.objective.kind={kind}", "stages.prefer.data.batch_size=12",
        "probes.samples=4", "probes.rows=[]", "probes.answers=0",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert steps_of(tmp_path / "run")[0]["loss"] == pytest.approx(first * 0.693147, abs=1e-5)
    probe = json.loads((tmp_path / "run" / "prefer" / "probe.json").read_text())
    assert 0.1 < probe["heldout"]["vision"]["loss"] < 0.65


@pytest.mark.slow
def test_a_kill_loses_what_was_not_written(prefer, tmp_path, monkeypatch):
    write, count = Reference.write, []

    def killed(self, *args):
        if len(count) == 2:
            raise FloatingPointError("the machine went away")
        count.append(1)
        write(self, *args)

    monkeypatch.setattr(Reference, "write", killed)
    assert prefer().exit_code == 2
    [path] = (tmp_path / "run" / "reference").glob("*/rank-0.jsonl")
    kept = path.read_text()
    path.write_text(kept + '{"row": 3, "log')
    monkeypatch.setattr(Reference, "write", write)
    result = prefer()
    assert f"reference: {PAIRS - len(kept.splitlines())} samples to score" in result.output
    assert prefer(f"output={tmp_path / 'whole'}").exit_code == 0
    one, other = (load_file(tmp_path / name / "prefer" / "model.safetensors")
                  for name in ("run", "whole"))  # fmt: skip
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_resumed_stage_compares_with_where_it_began(prefer, tmp_path, at_update):
    def fail():
        raise FloatingPointError("the machine went away")

    with at_update(3, fail):
        assert prefer("save_seconds=0").exit_code == 2
    result = prefer()
    assert "resumed after step 2 of 5" in result.output
    assert "reference: 0 samples to score" in result.output
    assert prefer(f"output={tmp_path / 'whole'}").exit_code == 0
    assert [row["loss"] for row in steps_of(tmp_path / "run")] == [
        row["loss"] for row in steps_of(tmp_path / "whole")
    ]


def test_a_sample_that_is_bad_is_left_out_of_both(prefer, tmp_path):
    shard = tmp_path / "pairs" / "train-000000.tar"
    assert prefer("stages.prefer.steps=1").exit_code == 0  # which indexes it
    data = bytearray(shard.read_bytes())
    at = data.index(b"\x89PNG") + 60
    data[at : at + 8] = b"\0" * 8
    index = shard.stat()
    shard.write_bytes(data)
    os.utime(shard, ns=(index.st_atime_ns, index.st_mtime_ns))
    shutil.rmtree(tmp_path / "run")
    result = prefer()
    assert result.exit_code == 0, result.output
    assert len(scored(tmp_path / "run")) == PAIRS - 1
    rows = (tmp_path / "run" / "resume" / "prefer" / "quarantine.jsonl").read_text().splitlines()
    assert rows and all("differs from its checksum" in row for row in rows)


def test_data_of_another_kind_are_refused_before_anything_is_loaded(prefer, tmp_path):
    write_shards([Sample([user("a"), assistant("b")], {}, META | {}) for _ in range(3)],
                 tmp_path / "plain")  # fmt: skip
    result = prefer(f"sources.pairs=[{tmp_path}/plain/*.tar]")
    told = " ".join(result.stderr.split())
    assert result.exit_code == 2 and "licence" not in result.output
    assert "recipe.yaml:" in told and "source 'pairs'" in told
    assert "it has no chosen and rejected answer" in told
    cut = prefer("stages.prefer.data.overlong=truncate")
    assert cut.exit_code == 2 and "use overlong: skip" in " ".join(cut.stderr.split())
    wrong = prefer("reference=parent")
    assert wrong.exit_code == 2 and "reference is stored or model" in " ".join(wrong.stderr.split())
