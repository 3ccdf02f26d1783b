"""What is saved is whole, is kept as long as was asked, and never costs what was saved before."""

import errno
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from omni.load import CheckpointError
from stages.training import checkpoint
from stages.training.checkpoint import check_space, load_step, save_step, write_atomically


@pytest.fixture
def trained(make_model):
    """Give a model and its optimizer after a step, and the accelerator they need."""
    model, _ = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    ids = torch.arange(8)[None]
    model(input_ids=ids, labels=ids, position_ids=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer, Accelerator(cpu=True)


def save(folder, trained, step, **keep):
    model, optimizer, accelerator = trained
    save_step(folder, step, model, optimizer, {"settings": {"seed": 0}}, accelerator, **keep)


def test_the_newest_and_every_nth_are_kept(trained, tmp_path):
    for step in range(1, 8):
        save(tmp_path, trained, step, keep_last=2, keep_every=3)
    kept = [int(path.name[5:]) for path in sorted(tmp_path.glob("step-*"))]
    assert kept == [3, 6, 7]


def test_weights_and_moments_come_back_to_the_bit(trained, make_model, tmp_path):
    save(tmp_path, trained, 5)
    model, _ = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    assert load_step(tmp_path, model, optimizer, {"seed": 0})["step"] == 5
    for ours, theirs in zip(model.parameters(), trained[0].parameters(), strict=True):
        assert torch.equal(ours, theirs)
        for name, moment in trained[1].state[theirs].items():
            assert torch.equal(optimizer.state[ours][name], moment)


def test_a_full_disk_costs_nothing_that_was_saved(trained, tmp_path, monkeypatch):
    save(tmp_path, trained, 1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.dcp, "save", full)
    with pytest.raises(CheckpointError, match=r"step-00000002.*No space left.*are untouched"):
        save(tmp_path, trained, 2)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_damaged_checkpoint_is_named(trained, tmp_path):
    save(tmp_path, trained, 1)
    data = next(tmp_path.rglob("*.distcp"))
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="step-00000001: is damaged"):
        load_step(tmp_path, *trained[:2], {"seed": 0})


def test_other_settings_are_named(trained, tmp_path):
    save(tmp_path, trained, 1)
    with pytest.raises(CheckpointError, match="made with seed = 0, the recipe says 1"):
        load_step(tmp_path, *trained[:2], {"seed": 1})


def test_a_disk_that_is_too_small_is_told_before_the_run(trained, tmp_path, monkeypatch):
    check_space(tmp_path, trained[0], 1)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(CheckpointError, match=r"0\.0 GB are free, the checkpoints of this stage"):
        check_space(tmp_path, trained[0], 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        check_space(tmp_path / "file" / "x", trained[0], 1)


def test_a_write_that_fails_leaves_the_old_folder(tmp_path):
    write_atomically(tmp_path / "a", lambda scratch: (scratch / "x").write_text("1"))

    def broken(scratch):
        (scratch / "x").write_text("2")
        raise OSError(errno.EIO, "broken")

    with pytest.raises(CheckpointError, match="broken"):
        write_atomically(tmp_path / "a", broken)
    assert (tmp_path / "a" / "x").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
