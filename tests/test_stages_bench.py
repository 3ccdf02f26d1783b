"""The benches of the engine hold at a small size, and say so when what they measure is broken."""

import json

import pytest
from typer.testing import CliRunner

from stages.bench import BENCHES, elastic, mixed, resume
from stages.cli import app


def skip_a_sample(run):
    """Make the newest checkpoint of a run resume its data one sample late."""
    path = max(run.glob("resume/*/step-*/state.json"))
    state = json.loads(path.read_text())
    state["data"]["plan"]["sources"]["text"]["position"] += 1
    path.write_text(json.dumps(state))


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_bits(tmp_path):
    result = resume.run(tmp_path / "x", small=True)
    assert result.ok, result
    assert result.figures == {"identical": True, "interruptions": 1}


@pytest.mark.slow
def test_a_resume_that_skips_a_sample_is_found(tmp_path):
    result = resume.run(tmp_path / "x", small=True, tamper=skip_a_sample)
    assert not result.ok
    assert result.figures["interruptions"] == 1


@pytest.mark.slow
def test_ranks_may_come_and_go(tmp_path):
    result = elastic.run(tmp_path / "x", small=True)
    assert result.ok, result
    assert result.figures["same_samples"]


@pytest.mark.slow
def test_ranks_that_skip_a_sample_are_found(tmp_path):
    result = elastic.run(tmp_path / "x", small=True, tamper=skip_a_sample)
    assert not result.ok
    assert not result.figures["same_samples"]


@pytest.mark.slow
def test_two_ranks_with_different_modalities_do_not_wait_for_each_other(tmp_path):
    result = mixed.run(tmp_path / "x")
    assert result.ok, result
    assert [row["weights on a rank"] for row in result.rows] == ["100%", "50%"]


@pytest.mark.slow
def test_a_modality_without_an_anchor_is_found(tmp_path):
    with pytest.raises(RuntimeError, match="a rank ended with"):
        mixed.run(tmp_path / "x", small=True, fault="zero_touch")


def test_the_command_lists_the_benches():
    listed = CliRunner().invoke(app, ["bench"])
    assert [line.split()[0] for line in listed.output.splitlines()] == list(BENCHES)
