"""Every bench holds at a small size, and says so when what it measures is broken."""

import json

import pytest
from typer.testing import CliRunner

from data_shards.bench import BENCHES, damage, resume, zoo
from data_shards.bench.data import Bare, samples
from data_shards.bench.life import plan_of, write_sources
from data_shards.bench.result import Result, module_of, show
from data_shards.bench.zoo_sounds import RATE, Sound, tone, written
from data_shards.cli import app
from data_shards.plan.packing import Snapshot
from data_shards.read.entry import read_entry
from data_shards.read.quarantine import Quarantine
from data_shards.shards import tar


def bench(name):
    return module_of("data_shards.bench", name).run


def forget_the_window(state):
    """Return a state as a loader would save it that forgets what it drew and did not pack."""
    plan = state["plan"]
    return {**state, "plan": {**plan, "window": [[] for _ in plan["window"]]}}


def forget_the_packs_taken(state):
    return {**state, "taken": []}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resume", "elastic"])
def test_runs_of_processes_hold(name, tmp_path):
    result = bench(name)(tmp_path / "x", small=True)
    assert result.ok, result
    assert result.figures.get("kills", 4) == 4


def test_a_life_that_begins_at_the_end_reads_nothing(tmp_path):
    """A life may reach its last batch, and checkpoint it, before it is killed."""

    class Pipe(list):
        def send(self, number):
            self.append(number)
            assert number < 6 and len(self) < 20, "it reads on past the end"

    write_sources(tmp_path, 6)
    lives = [Pipe(), Pipe()]
    for pipe in lives:
        resume.train(tmp_path, 6, 0, pipe)
    assert lives == [[-1, 0, 1, 2, 3, 4, 5, 5], [-1, 5]]
    assert [line.split()[0] for line in (tmp_path / "log").open()] == list("012345")


@pytest.mark.slow
def test_lives_that_reach_their_end_are_killed_there(tmp_path):
    result = bench("resume")(tmp_path / "x", small=True, stops=(60, 60, 7))
    assert result.ok, result
    assert [life["ended by"] for life in result.rows] == ["kill -9"] * 3 + ["exit 0"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tamper", "figure"),
    [("resume", forget_the_window, "identical"),
     ("elastic", forget_the_window, "same_steps"),
     ("elastic", forget_the_packs_taken, "same_steps")],
)  # fmt: skip
def test_a_state_that_forgets_is_found(name, tamper, figure, tmp_path):
    result = bench(name)(tmp_path / "x", small=True, tamper=tamper)
    assert not result.ok
    assert result.figures[figure] is False


@pytest.mark.slow
def test_a_first_batch_comes_soon_and_a_fat_state_is_found(tmp_path, monkeypatch):
    result = bench("resume-cost")(tmp_path / "x", shards=6)
    assert result.ok, result
    assert result.figures["samples"] == 6000
    real = Snapshot.state
    monkeypatch.setattr(Snapshot, "state", lambda self: {**real(self), "normal": "x" * 12_000})
    fat = bench("resume-cost")(tmp_path / "y", shards=3)
    assert not fat.ok
    assert fat.figures["state_bytes"] > 16_000


def test_damage_is_survived_and_named(tmp_path):
    result = bench("damage")(tmp_path / "x", small=True)
    assert result.ok, [row for row in result.rows if not row["ok"]]
    assert result.figures["lost"] == result.figures["uncounted"] == 0
    assert result.figures["bad"] > 25
    assert not [row for row in result.rows if "BytesIO" in row["told"]]  # it has an address


def test_a_scan_that_ends_at_damage_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(tar, "next_header", lambda blocks, at: len(blocks))
    result = bench("damage")(tmp_path / "x", small=True)
    assert not result.ok
    assert result.figures["lost"] > 0


def test_a_loader_that_keeps_silent_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(Quarantine, "add", lambda self, bad, source, pack: (
        self.path.touch() if pack is None else None))  # fmt: skip
    result = bench("damage")(tmp_path / "x", small=True)
    assert not result.ok
    assert result.figures["lost"] == 0
    assert result.figures["uncounted"] >= result.figures["bad"]


def test_what_is_delivered_and_is_not_intact_is_found(tmp_path, monkeypatch):
    class Short(damage.Hostile):
        def __init__(self, folder):
            super().__init__(folder)
            self.intact.popitem()  # so that what is delivered of it should not have been

    monkeypatch.setattr(damage, "Hostile", Short)
    result = bench("damage")(tmp_path / "x", small=True)
    assert not result.ok
    assert (result.figures["uncounted"], result.figures["lost"]) == (1, 0)


def test_media_of_every_kind_are_read_as_they_are(tmp_path):
    result = bench("zoo")(tmp_path / "x", small=True)
    assert result.ok, result.rows
    assert result.figures["wrong"] == result.figures["uncounted"] == 0
    assert result.figures["files"] > 200


def test_media_that_are_read_otherwise_are_found(tmp_path, monkeypatch, make_picture):
    other, wave = make_picture(1), written(tone(), RATE, "WAV")
    monkeypatch.setattr(zoo, "pictures", lambda: [("cut", other[:-90], 0), ("other", other, 0)])
    monkeypatch.setattr(zoo, "unknowable", lambda: [("known", other)])
    monkeypatch.setattr(zoo, "sounds", lambda: [Sound("low", wave, peak=0.5)])
    monkeypatch.setattr(zoo, "videos", lambda: [])
    result = bench("zoo")(tmp_path / "x")
    assert not result.ok
    assert (result.figures["wrong"], result.figures["uncounted"]) == (2, 2)


def test_the_processor_of_the_benches_costs_what_it_says(tmp_path):
    plan = plan_of(write_sources(tmp_path, 6), 4)
    for name in plan.names:
        index, lengths = plan.sources[name], plan.lengths[name]
        for row in range(len(index)):
            encoded = Bare().encode(read_entry(index.entry(row)).conversation())
            assert lengths.tokens[row] == len(encoded)
            assert (lengths.patches[row] > 0) == ("vision" in encoded.media)
            assert (lengths.frames[row] > 0) == ("audio" in encoded.media)


def test_data_is_the_same_for_the_same_seed():
    first, again, other = (list(samples(3, seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert {*first[0].parts} == {"img0.jpg", "aud0.wav"}


def test_the_last_line_is_json_whatever_happens(capsys):
    def broken(folder, small):
        raise OSError("no space left")

    found = Result(False, {"waste": [0.5]}, [{"mix": "[a]", "waste": 0.5}])
    for run, figures in ((broken, {"error": "OSError: no space left"}),
                         (lambda folder, small: found, {"waste": [0.5]})):  # fmt: skip
        assert show(run) is False
        assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"ok": False, **figures}


def test_the_command_lists_the_benches_and_returns_what_they_found(monkeypatch):
    runner = CliRunner()
    listed = runner.invoke(app, ["bench"])
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.output.splitlines()] == list(BENCHES)
    wrong = runner.invoke(app, ["bench", "sped"])
    assert wrong.exit_code == 2
    assert "there is no bench 'sped'" in wrong.output
    for ok in (True, False):
        result = Result(ok, {"spread": 0.01})
        monkeypatch.setattr("data_shards.bench.balance.run", lambda f, small, r=result: r)
        done = runner.invoke(app, ["bench", "balance", "--small"])
        assert done.exit_code == (not ok)
        assert json.loads(done.output.splitlines()[-1]) == {"ok": ok, "spread": 0.01}
