"""The benches of learning run as a user runs them, and their controls are what they say."""

import pytest
from typer.testing import CliRunner

from stages.bench import cft, dpo, guard, preferences_omni, spin, thinking, toys
from stages.cli import app


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bench", "figure"),
    [(spin, "opponents"), (cft, "verdict_shuffled"), (guard, "f1_swapped"),
     (thinking, "control"), (preferences_omni, "shuffled_audio")],
    ids=lambda one: getattr(one, "__name__", one),
)  # fmt: skip
def test_a_bench_of_learning_runs_with_its_control(tmp_path, bench, figure):
    result = bench.run(tmp_path / "x", small=True)
    assert result.ok, result
    assert result.rows and figure in result.figures


@pytest.mark.slow
def test_a_step_of_dpo_costs_what_trl_says(tmp_path):
    result = dpo.run(tmp_path, small=True)
    assert result.ok and result.figures["loss_difference"] <= 1e-6
    assert result.rows[0]["step of"] == "ours" and len(result.rows) == 3


def test_a_bench_without_seeds_says_so():
    result = CliRunner().invoke(app, ["bench", "head", "--small", "--seeds", "2"])
    assert result.exit_code == 2 and "the bench head takes no --seeds" in result.stderr


def test_shuffled_media_stay_of_their_kind(tmp_path):
    toys.made(tmp_path, ["pairs"], 40, 0)
    held = toys.samples(tmp_path / "pairs", "train")
    found = preferences_omni.shuffled(held, 0)
    assert sorted(str(one.chosen) for one in found) == sorted(str(one.chosen) for one in held)
    assert [[*one.parts] for one in found] == [[ref for _, ref in one.refs()] for one in found]
    before = {str(one.meta["identity"]): one.parts for one in held}
    assert any(before[str(one.meta["identity"])] != one.parts for one in found)
