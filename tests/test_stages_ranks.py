"""Processes that a launcher starts share the work of the public commands, or say what to type."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from omni.launch import SAYS, LaunchError, launched

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
TORCHRUN = [str(BIN / "torchrun"), "--standalone", "--nproc-per-node", "2", "-m"]
ACCELERATE = [str(BIN / "accelerate"), "launch", "--num_processes", "2"]
ALIGN = ["--stage", "vision_align", "stages.vision_align.steps=3",
         "stages.vision_align.data.packs_per_step=2"]  # fmt: skip


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Start without what a launcher around the tests may have set."""
    for name in {"MASTER_ADDR", "MASTER_PORT", "ACCELERATE_USE_CPU"}.union(*SAYS.values()):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


def start(command, **more) -> subprocess.CompletedProcess:
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
                        "CUDA_VISIBLE_DEVICES": "", **more}  # fmt: skip
    return subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )


def losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "step" in row]


@pytest.fixture(scope="module")
def one(shards, tmp_path_factory):
    """Return the losses of one process."""
    run = tmp_path_factory.mktemp("one") / "run"
    done = start([sys.executable, "-m", "stages.cli", "tiny", *ALIGN, *shards, f"output={run}"])
    assert done.returncode == 0, done.stderr
    assert "vision_align: 1 rank (single) on cpu, fp32" in done.stdout
    return losses(run)


def check_two(done, run, one):
    assert done.returncode == 0, done.stderr
    assert "vision_align: 2 ranks (DDP) on cpu, fp32" in done.stdout
    assert done.stdout.count("saved to") == 1
    assert "waiting" not in done.stderr
    facts = json.loads((run / "vision_align" / "stage.json").read_text())
    assert (facts["ranks"], facts["engine"]) == (2, "DDP")
    assert losses(run) == pytest.approx(one, abs=1e-5)


@pytest.mark.slow
def test_torchrun_shares_a_stage_and_moves_an_earlier_run_once(shards, tmp_path, one):
    run = tmp_path / "run"
    run.mkdir()
    (run / "old.txt").touch()
    done = start([*TORCHRUN, "stages.cli", "run", "tiny", "--fresh", *ALIGN, *shards,
                  f"output={run}"])  # fmt: skip
    check_two(done, run, one)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["run", "run.old0"]
    assert (tmp_path / "run.old0" / "old.txt").is_file()


@pytest.mark.slow
def test_accelerate_launch_shares_a_stage(shards, tmp_path, one):
    run = tmp_path / "run"
    command = [*ACCELERATE, "--multi_gpu", "-m", "stages.cli", "tiny"]
    check_two(start([*command, *ALIGN, *shards, f"output={run}"]), run, one)


@pytest.mark.slow
def test_tasks_that_only_know_their_rank_share_a_stage(shards, tmp_path, one):
    """WORLD_SIZE and RANK alone, as a job script around srun sets them."""
    run, place = tmp_path / "run", {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                                    "MASTER_PORT": "29611"}  # fmt: skip
    command = [sys.executable, "-m", "stages.cli", "tiny", *ALIGN, *shards, f"output={run}"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", **place}
    second = subprocess.Popen(command, env=env | {"RANK": "1"}, stdout=subprocess.DEVNULL)
    try:
        check_two(start(command, RANK="0", **place), run, one)
        assert second.wait(timeout=60) == 0
    finally:
        second.kill()


@pytest.mark.slow
def test_the_script_of_a_stage_runs_two_processes(shards, tmp_path, one):
    script, run = str(ROOT / "scripts" / "stage1_vision_align.sh"), tmp_path / "run"
    done = start([script, "tiny", *ALIGN[2:], *shards, f"output={run}"], GPUS="2")
    check_two(done, run, one)


@pytest.mark.slow
@pytest.mark.parametrize("module", ["stages.cli", "eval.cli"])
def test_one_process_of_two_is_refused(module, tiny_checkpoint, kinds, tmp_path):
    run = tmp_path / "run"
    arguments = {
        "stages.cli": ["tiny", f"output={run}"],
        "eval.cli": [str(tiny_checkpoint), "--data", str(kinds), "--out", str(run)],
    }
    done = start([*ACCELERATE, "--cpu", "-m", module, *arguments[module]])
    assert done.returncode
    assert f"type: torchrun --nproc-per-node N -m {module} ..." in " ".join(done.stderr.split())
    assert not run.exists()


@pytest.mark.slow
def test_a_bad_output_ends_both_with_one_sentence(shards, tmp_path):
    (tmp_path / "file").touch()
    done = start([*TORCHRUN, "stages.cli", "run", "tiny", *shards, f"output={tmp_path}/file/x"])
    assert done.returncode
    assert done.stderr.count("cannot be written") == 1


@pytest.mark.parametrize("launcher", SAYS)
def test_every_launcher_is_understood(launcher, monkeypatch):
    size, rank, local = SAYS[launcher]
    assert launched("stages.cli") == 1
    monkeypatch.setenv(size, "4")
    monkeypatch.setenv(rank, "3")
    monkeypatch.setenv(local, "1")
    with pytest.raises(LaunchError, match=rf"{size} says that 4 processes .* MASTER_ADDR"):
        launched("stages.cli")
    monkeypatch.setenv("MASTER_ADDR", "node0")
    assert launched("stages.cli") == 4
    found = [os.environ[name] for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK")]
    assert found == ["4", "3", "1"]
    monkeypatch.setenv("WORLD_SIZE", "1")  # as who wants separate runs says
    assert launched("stages.cli") == 1


@pytest.mark.parametrize("value", ["two", "", "-1", "0"])
def test_a_number_of_processes_that_is_none_is_refused(value, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", value)
    with pytest.raises(LaunchError, match=f"WORLD_SIZE is '{value}', not a number of processes"):
        launched("stages.cli")


ROLLOUT = """\
output: {run}
text: tiny:llama
precision: fp32
trackers: []
stages:
  - name: rl
    trainable: {{language_model: 3.0e-3}}
    objective: {{kind: grpo, kl: 0.1}}
    rollout:
      environment: {{kind: "vowels:Vowels"}}
      prompts: 4
      group: 4
      batch: 2
      max_new_tokens: 6
      updates: 2
    steps: 4
"""


VOWELS = """\
import os
from pathlib import Path

import torch
from stages.engine.distribute import full_tensor
from torch import nn
from data_shards.environments import Verdict
from omni.processing.messages import user

class Vowels:
    name = "vowels"
    def state(self, seed): return {"seed": seed}
    def prompt(self, state): return [user(f"Say {state['seed'] % 7}.")], {}
    def verify(self, state, answer):
        return Verdict(sum(c in "aeiou0123" for c in answer), False, False, "no")
    def solution(self, state): return "a"

clip, gradients = nn.utils.clip_grad_norm_, []

def noting(parameters, limit):
    parameters = list(parameters)
    gradients.append([full_tensor(p.grad).clone() for p in parameters if p.grad is not None])
    torch.save(gradients, Path(__file__).with_name(f"{os.environ['RUN']}.pt"))
    return clip(parameters, limit)

nn.utils.clip_grad_norm_ = noting
"""


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "full"])
def test_two_ranks_draw_and_learn_what_one_does(tmp_path, sharding):
    """The same answers, and gradients that differ by no more than the order of additions."""
    (tmp_path / "vowels.py").write_text(VOWELS)
    rows, drawn, weights, gradients = [], [], [], []
    for command in ([sys.executable, "-m"], TORCHRUN):
        run = tmp_path / str(len(rows))
        recipe = tmp_path / f"{run.name}.yaml"
        recipe.write_text(ROLLOUT.format(run=run))
        done = start([*command, "stages.cli", "run", str(recipe), f"sharding={sharding}"],
                     PYTHONPATH=f"{ROOT}:{tmp_path}", RUN=run.name)  # fmt: skip
        assert done.returncode == 0, done.stderr
        gradients.append(torch.load(tmp_path / f"{run.name}.pt"))
        assert json.loads((run / "rl" / "stage.json").read_text())["ranks"] == len(rows) + 1
        log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        rows.append([row for row in log if "step" in row])
        drawn.append([row["shown"] for row in log if row.get("event") == "rollout"])
        weights.append(load_file(run / "rl" / "model.safetensors"))
    alone, shared = rows
    assert len(alone) == len(shared) == 4
    assert drawn[0] == drawn[1] and len(drawn[0]) == 2
    for name in ("loss", "reward", "entropy", "kl", "ratio.off"):
        found = [[row.get(name, 0.0) for row in run] for run in rows]
        assert found[1] == pytest.approx(found[0], abs=1e-5), name
    moved = max(abs(row["loss"]) for row in alone)
    assert moved > 1e-3  # the second update of a rollout sees what the first has changed
    assert len(gradients[0]) == len(gradients[1]) == 4
    for one, two in zip(*gradients, strict=True):
        assert max(tensor.abs().max() for tensor in one) > 1e-3
        assert all(torch.allclose(b, a, rtol=0, atol=1e-5) for a, b in zip(one, two, strict=True))
    for name, tensor in weights[0].items():
        assert torch.allclose(weights[1][name], tensor, atol=1e-4), name
