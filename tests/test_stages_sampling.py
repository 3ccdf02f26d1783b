"""What a checkpoint answers becomes shards that name what they were made of."""

import json

import pytest
from typer.testing import CliRunner

from data_shards.read.entry import read_shard
from data_shards.shards.sample import Sample
from data_shards.shards.shard import find_shards
from data_shards.shards.write import write_shards
from omni.processing.messages import assistant, audio, image, user
from stages.cli import app
from stages.sampling import sample as sampling

META = {"source": "t", "license": "MIT", "schema": 1}


@pytest.fixture
def ask(tiny_checkpoint, tmp_path, make_picture, make_sound):
    """Return a function that answers five prompts: with a picture, a sound, or none."""
    parts = [{"img0.png": make_picture(1)}, {"aud0.wav": make_sound(0.3)}, {}, {}]
    shown = [[image("img0.png")], [audio("aud0.wav")], [], []]
    talks = [
        Sample([user(*media, f"What, {n}?"), assistant("It.")], held, META | {})
        for n, (media, held) in enumerate(zip(shown, parts, strict=True))
    ]
    talks.append(Sample([user("Q")], {}, META | {}, chosen=[assistant("a")],
                        rejected=[assistant("b")]))  # fmt: skip
    talks.append(Sample([assistant("Hello.")], {}, META | {}))
    write_shards(talks, tmp_path / "prompts")

    def run(*more: str, out: str = "own"):
        return CliRunner().invoke(app, [
            "sample", str(tiny_checkpoint), "--prompts", str(tmp_path / "prompts"), "--out",
            str(tmp_path / out), "-n", "2", "--max-new-tokens", "5", "--batch", "2", *more,
        ])  # fmt: skip

    return run


def answers(folder) -> dict[tuple[str, int], str]:
    found = [s for path in find_shards(folder) for s in read_shard(path)]
    assert all(s.meta["finish"] in ("stop", "length") and s.meta["license"] == "MIT" for s in found)
    return {(s.meta["prompt"].rpartition(":")[2], s.meta["number"]):
            s.messages[-1]["content"][0]["text"] for s in found}  # fmt: skip


def test_answers_are_shards_that_say_what_made_them(ask, tmp_path):
    result = ask()
    assert result.exit_code == 0, result.output
    assert "own: 10 answers; 1 prompts left out" in result.output
    assert "00000005: it asks nothing" in result.output
    manifest = json.loads((tmp_path / "own" / "manifest.json").read_text())
    assert (manifest["generation"]["n"], manifest["generation"]["temperature"]) == (2, 1.0)
    assert len(manifest["weights"]) == 64 and manifest["licenses"] == {"t": "MIT"}
    assert ask("--batch", "5", out="other").exit_code == 0
    found = answers(tmp_path / "own")
    assert found == answers(tmp_path / "other")  # whatever the batch
    assert any(found[key, 0] != found[key, 1] for key, _ in found)
    assert ask("--seed", "1").exit_code == 0  # sampled anew, in its place
    assert answers(tmp_path / "own") != found


def test_a_kill_loses_a_batch_and_what_is_there_is_kept(ask, tmp_path, monkeypatch):
    complete, calls = sampling.complete, []

    def killed(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise OSError("the machine went away")
        return complete(*args, **kwargs)

    monkeypatch.setattr(sampling, "complete", killed)
    assert ask().exit_code == 2 and not (tmp_path / "own").exists()
    assert ask().exit_code == 0
    assert len(calls) == 4  # a batch, the lost one, and the two that were left
    assert ask().exit_code == 0 and len(calls) == 4
    assert ask(out="whole").exit_code == 0
    assert answers(tmp_path / "own") == answers(tmp_path / "whole")


def test_what_is_something_else_is_not_replaced(ask, tmp_path):
    result = ask(out="prompts")
    assert result.exit_code == 2 and "something other than sampled answers" in result.stderr
    assert (tmp_path / "prompts" / "train-000000.tar").is_file()
    assert "no shard matches" in ask("--prompts", str(tmp_path / "none")).stderr
    assert "top_p must be" in ask("--top-p", "0").stderr
