"""The document that breaks a step is named and left out; a run that knows of it is the same run."""

import json
import runpy
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

from data_shards.bench.data import samples
from data_shards.bench.forked import start, wait
from data_shards.read.batch import Batch, Documents
from data_shards.shards.write import write_shards
from omni.processing.messages import assistant
from stages.bench.offender import PLANTED, RARE, write_parts
from stages.cli import app
from stages.objectives.base import Loss
from stages.objectives.task import Task
from stages.training import guard as guarding
from stages.training.guard import RESTART, Guard, halve
from stages.training.steps import Step

NAN = PLANTED["nan"]
STEPS = 16  # of 5 samples: two epochs of the 40


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Path:
    """Hold the LLM with the damaged row and its shards."""
    folder = tmp_path_factory.mktemp("offender")
    write_parts(folder)
    return folder


def train(parts: Path, run: Path, *overrides: str, shards: str = "shards-nan"):
    return CliRunner().invoke(app, [
        str(parts / "recipe.yaml"), f"output={run}", f"sources.text=[{parts / shards}/*.tar]",
        f"stages.only.steps={STEPS}", "stages.only.data.batch_size=5", *overrides,
    ])  # fmt: skip


def rows(run: Path, name: str = "offenders") -> list[dict]:
    path = run / "resume" / "only" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def facts(run: Path) -> dict:
    return json.loads((run / "only" / "stage.json").read_text())


def same(a: Path, b: Path) -> bool:
    one, other = (load_file(run / "only" / "model.safetensors") for run in (a, b))
    return all(torch.equal(one[n], other[n]) for n in one)


@pytest.fixture(scope="module")
def guarded(parts, tmp_path_factory) -> Path:
    """Train over the sample that makes NaN; the folder is not to be changed."""
    run = tmp_path_factory.mktemp("runs") / "guarded"
    result = train(parts, run)
    assert result.exit_code == 0, result.output
    assert f"left out train-000000.tar:{NAN} of 'text', step 6: not finite" in result.output
    return run


def test_the_sample_is_named_quarantined_and_counted(guarded):
    failed, culprit = rows(guarded)
    assert (failed["event"], failed["step"], failed["why"]) == ("failed", 6, "not finite")
    [pack] = failed["packs"]
    assert len(pack["documents"]) == 5
    [told] = [d for d in pack["documents"] if d["sample"].endswith(NAN)]
    assert told["tokens"] > told["labels"] > 3
    assert told["files"] == 0
    assert (culprit["event"], culprit["sample"]) == ("culprit", f"train-000000.tar:{NAN}")
    out = rows(guarded, "quarantine")
    assert [row["key"] for row in out] == [NAN, NAN]  # once in each epoch
    assert out[0]["reason"] == "step 6: not finite"
    assert facts(guarded)["totals"]["quarantined"] == 2
    assert facts(guarded)["totals"]["samples"] == 5 * STEPS - 2
    log = [json.loads(line) for line in (guarded / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log if "step" in row] == list(range(1, STEPS + 1))


@pytest.mark.parametrize("threads", [0, 2])
def test_a_run_that_knows_makes_the_same_weights(guarded, parts, tmp_path, threads, monkeypatch):
    """What was found at a step holds from that step on, not before: resume stays exact."""
    run = tmp_path / "run"
    (run / "resume" / "only").mkdir(parents=True)
    name = Path("resume") / "only" / "offenders.jsonl"
    shutil.copy(guarded / name, run / name)
    with (run / name).open("a") as file:
        file.write('{"event": "gui')  # cut by a kill
    monkeypatch.setattr(Guard, "search", None)  # there is nothing to look for
    result = train(parts, run, f"threads={threads}")
    assert result.exit_code == 0, result.output
    assert same(run, guarded)
    assert facts(run)["totals"] == facts(guarded)["totals"]


@pytest.mark.parametrize("crash_at", [6, 9])
def test_a_killed_run_goes_on_without_it(guarded, parts, tmp_path, crash_at, at_update):
    run = tmp_path / "run"

    def fail():
        raise FloatingPointError("the machine went away")

    with at_update(crash_at, fail, after=True):  # 6: it was found, and nothing saved since
        assert train(parts, run, "save_seconds=0").exit_code == 2
    result = train(parts, run, "threads=2")
    assert f"resumed after step {crash_at - 1} of" in result.output
    assert same(run, guarded)
    assert facts(run)["totals"] == facts(guarded)["totals"]


def test_without_the_guard_the_run_stops(parts, tmp_path):
    result = train(parts, tmp_path / "run", "max_offenders=0")
    assert result.exit_code == 2
    assert f"train-000000.tar:{NAN}" in result.stderr
    assert "nothing was updated" in result.stderr


@pytest.mark.slow
def test_more_offenders_than_allowed_stop_the_run(parts, tmp_path):
    many = list(samples(40, media=[], chars=(20, 60)))
    for n in (3, 12, 30):
        many[n].messages[1] = assistant(f"odd {RARE}")
    write_shards(many, parts / "many")
    result = train(parts, tmp_path / "run", "max_offenders=2", shards="many")
    assert result.exit_code == 2
    assert "3 samples broke a step" in result.stderr
    assert "raise max_offenders (2)" in result.stderr
    assert len({row["key"] for row in rows(tmp_path / "run", "quarantine")}) == 2
    again = train(parts, tmp_path / "run", "max_offenders=1", shards="many")
    assert again.exit_code == 2
    assert "raise max_offenders (1)" in again.stderr


def test_when_everything_fails_it_is_not_a_sample(parts, tmp_path):
    result = train(parts, tmp_path / "run", 'stages.only.trainable={"*": 1e+30}')
    assert result.exit_code == 2
    assert "the loss is " in result.stderr
    assert not [row for row in rows(tmp_path / "run") if row["event"] == "culprit"]


def tokens_limited(limit: int):
    real = Task.forward

    def forward(self, batch, count):
        if batch["input_ids"].shape[1] > limit:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return real(self, batch, count)

    return forward


@pytest.mark.slow
def test_a_sample_too_large_for_memory_is_left_out(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(Task, "forward", tokens_limited(3000))
    result = train(parts, tmp_path / "run", shards="shards-nan-giant")
    assert result.exit_code == 0, result.output
    culprits = {row["sample"][-8:]: row["reason"].partition(": ")[2]
              for row in rows(tmp_path / "run") if row["event"] == "culprit"}  # fmt: skip
    assert culprits == {PLANTED["giant"]: "out of memory", NAN: "not finite"}


def test_a_batch_too_large_for_memory_is_told_apart(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(Task, "forward", tokens_limited(200))
    result = train(parts, tmp_path / "run", shards="shards")
    assert result.exit_code == 2
    assert "out of memory on the samples train-000000.tar:" in result.stderr
    assert "Lower data.max_tokens" in result.stderr


WORKER = """
import sys
from stages.objectives.base import Loss
from stages.objectives.task import Task
from stages.cli import app
sys.path.insert(0, {tests!r})
from test_stages_offenders import tokens_limited
Task.forward = tokens_limited(3000)
app({arguments})
"""


@pytest.mark.slow
def test_a_rank_out_of_memory_is_started_again_and_finds_why(parts, tmp_path):
    script, run = tmp_path / "worker.py", tmp_path / "run"
    arguments = [str(parts / "recipe.yaml"), f"output={run}",
                 f"sources.text=[{parts / 'shards-nan-giant'}/*.tar]", "save_seconds=0",
                 f"stages.only.steps={STEPS}", "stages.only.data.batch_size=2"]  # fmt: skip
    script.write_text(WORKER.format(tests=str(Path(__file__).parent), arguments=arguments))

    def train_on_two() -> None:
        wait(start(runpy.run_path, (str(script), None, "__main__"), 2, tmp_path), tmp_path)

    with pytest.raises(RuntimeError, match=f"ended with {RESTART}"):
        train_on_two()
    assert not [row for row in rows(run) if row["event"] == "culprit"]
    train_on_two()
    culprits = {row["sample"][-8:] for row in rows(run) if row["event"] == "culprit"}
    assert culprits == {PLANTED["giant"], NAN}
    assert facts(run)["totals"]["quarantined"] >= 2


def test_another_error_is_not_taken_for_memory(parts, tmp_path, monkeypatch):
    def forward(self, batch, count):
        raise RuntimeError("a bug")

    monkeypatch.setattr(Task, "forward", forward)
    result = train(parts, tmp_path / "run")
    assert str(result.exception) == "a bug"


@pytest.fixture
def guard(tmp_path):
    """Return a function: options -> a guard over a task that adds up its batch."""

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

        def forward(self, batch, count):
            return Loss(self.norm(batch["x"]).sum() / count, torch.zeros(1))

    def make(**options):
        steps = SimpleNamespace(modalities={})
        return Guard(Sum(), steps, tmp_path, Accelerator(cpu=True), **options)  # type: ignore

    return make


STEP = Step(5, [Batch({"input_ids": torch.zeros(1, 3)}, Documents(), {}, 4, 2, [])])


def test_a_step_that_hangs_ends_the_process(guard, tmp_path, monkeypatch, capsys):
    codes = []
    monkeypatch.setattr(guarding.os, "_exit", codes.append)
    with guard(timeout=0.2).watch(STEP):
        pass
    time.sleep(0.4)
    assert codes == []
    with guard(timeout=0.2).watch(STEP):
        end = time.monotonic() + 10
        while not codes and time.monotonic() < end:
            time.sleep(0.01)
    assert codes == [RESTART] == [75]
    [row] = map(json.loads, (tmp_path / "offenders.jsonl").read_text().splitlines())
    assert (row["why"], row["step"], row["packs"][0]["pack"]) == ("timeout", 5, 2)
    assert "test_a_step_that_hangs" in (tmp_path / "stacks-0.txt").read_text()
    assert "The same command goes on" in capsys.readouterr().err


def test_a_rank_out_of_memory_leaves_and_the_next_start_looks_first(guard, tmp_path, monkeypatch):
    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr(guarding.os, "_exit", leave)
    one = guard()
    monkeypatch.setattr(Guard, "several", True)
    one.accelerator = SimpleNamespace(process_index=0, num_processes=2)
    with pytest.raises(SystemExit, match="75"), one.watch(STEP):
        raise MemoryError
    again = guard()
    with pytest.raises(MemoryError, match="an earlier run ended here"), again.watch(STEP):
        raise AssertionError("not to be reached")


def test_trying_documents_changes_nothing(guard):
    one = guard()
    before = {n: t.clone() for n, t in one.task.state_dict().items()}
    with one.watch(STEP):
        pass
    fine = {"x": torch.randn(4, 2), "labels": torch.zeros(4)}
    assert not one._fails(fine)
    assert one._fails(fine | {"x": fine["x"] * float("inf")})
    assert one._fails(fine | {"x": fine["x"] * float("nan")})
    assert all(torch.equal(before[n], t) for n, t in one.task.state_dict().items())
    assert all(p.grad is None for p in one.task.parameters())


@pytest.mark.parametrize("together", [True, False])
def test_ranks_try_equally_often(together):
    """Three ranks, one without documents; a failure of one is not blamed on another."""
    hands = [[*range(10)], [], [*range(20, 27)]]
    wrong, barrier = {3, 4, 26}, threading.Barrier(3)
    shared, tried, found = [0, 0, 0], [[], [], []], {}

    def rank(r):
        def everyone(count):
            barrier.wait()
            shared[r] = count
            barrier.wait()
            return list(shared)

        def fails(some):
            tried[r].append(list(some))
            barrier.wait()
            mine = [tried[r][-1]] if together else [hand[-1] for hand in tried]
            return any(set(one) & wrong for one in mine)

        found[r] = halve(hands[r], fails, everyone, r, together)

    threads = [threading.Thread(target=rank, args=(r,)) for r in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert {r: sorted(names) for r, names in found.items()} == {0: [3, 4], 1: [], 2: [26]}
    assert len({len(of_rank) for of_rank in tried}) == 1
    if not together:
        assert all(sum(map(bool, round_)) == 1 for round_ in zip(*tried, strict=True))
