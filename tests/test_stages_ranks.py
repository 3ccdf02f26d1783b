"""Two processes on the CPU: no rank waits for a modality that it lacks, and both end equal."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from stages import chain
from stages.recipe import load_recipe

WORKER = """
import hashlib, json, os, sys
from pathlib import Path
from accelerate import Accelerator
from stages import chain, objectives, trainer
from stages.recipe import load_recipe

folder, *overrides = sys.argv[1:]
rank = int(os.environ["RANK"])
seen, real, finish = [], objectives.Task.forward, trainer._finish

def forward(self, batch, count):
    seen.append(sorted(set(batch) & {"pixel_values", "input_features"}))
    return real(self, batch, count)

def finished(target, model, *rest):
    digest = hashlib.sha256()
    for name, p in model.named_parameters():
        digest.update(p.detach().numpy().tobytes())
    Path(folder, f"rank{rank}.json").write_text(json.dumps([seen, digest.hexdigest()]))
    finish(target, model, *rest)

# Adam would hide a wrong scale of the gradient
trainer.torch.optim.AdamW = lambda groups, **_: trainer.torch.optim.SGD(groups)
objectives.Task.forward, trainer._finish = forward, finished
recipe = load_recipe("tiny", overrides)
recipe.stages = [stage for stage in recipe.stages if stage.name == "omni"]
chain.run_recipe(recipe, Accelerator(cpu=True))
"""


@pytest.fixture(scope="module")
def parents(shards, tmp_path_factory) -> Path:
    """Train the two alignment stages for one step each."""
    run = tmp_path_factory.mktemp("ranks") / "parents"
    recipe = load_recipe("tiny", [*shards, f"output={run}", "stages.vision_align.steps=1",
                                  "stages.audio_align.steps=1"])  # fmt: skip
    recipe.stages = recipe.stages[:2]
    chain.run_recipe(recipe, Accelerator(cpu=True))
    return run


def overrides(shards, parents, run, batch_size):
    return [
        *shards, f"output={run}", f"text={parents / 'audio_align'}", "stages.omni.steps=4",
        "stages.omni.data.accumulate=1", f"stages.omni.data.batch_size={batch_size}",
        "stages.omni.data.mixture={captions: 0.4, words: 0.3, text: 0.3}", "stages.omni.clip=1e6",
        "stages.omni.trainable={projectors: 0.1, language_model: 0.1}",
    ]  # fmt: skip


def only_omni(settings: list[str]):
    recipe = load_recipe("tiny", settings)
    recipe.stages = [stage for stage in recipe.stages if stage.name == "omni"]
    return recipe


@pytest.mark.slow
def test_ranks_with_different_modalities_finish_and_agree(shards, parents, tmp_path, monkeypatch):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    two = tmp_path / "two"
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(script), str(tmp_path), *overrides(shards, parents, two, 1)],
        check=True, timeout=300, env=os.environ | {"ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    (seen0, hash0), (seen1, hash1) = (
        json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)
    )
    assert hash0 == hash1
    assert len(seen0) == len(seen1) == 4
    assert any(a != b for a, b in zip(seen0, seen1, strict=True)), (seen0, seen1)

    one = tmp_path / "one"
    monkeypatch.setattr(torch.optim, "AdamW", lambda groups, **_: torch.optim.SGD(groups))
    chain.run_recipe(only_omni(overrides(shards, parents, one, 2)), Accelerator(cpu=True))
    ours, theirs = (load_file(run / "omni" / "model.safetensors") for run in (one, two))
    start = load_file(parents / "audio_align" / "model.safetensors")
    moved = max((ours[n] - start[n]).abs().max().item() for n in ours)
    assert moved > 1e-2
    for name in ours:  # two ranks with one sample are one rank with two
        torch.testing.assert_close(theirs[name], ours[name], atol=1e-5, rtol=1e-4)
