"""`omni-train bench throughput`: same loss, honest clocks. How fast it is, a quiet machine says."""

import pytest

from stages.bench.throughput import run


@pytest.mark.slow
def test_both_loops_learn_the_same_and_waiting_shows(tmp_path):
    result = run(tmp_path, small=True, delay=0.1)
    figures = result.figures
    assert figures["loss_difference"] <= 1e-4
    assert figures["hf_padding"] > figures["padding"] == 0.0
    assert {row["loop"] for row in result.rows} == {"ours", "transformers.Trainer"}
    assert figures["vs_hf_trainer"] > 0
    # samples that come late make it fail, however fast the rest is
    assert not result.ok
    assert figures["data_wait"] > 0.02
    assert figures["pack_share"] < figures["data_wait"]


@pytest.mark.slow
def test_another_loss_makes_it_fail(tmp_path, monkeypatch):
    from omni.model import head

    logits = head.logits_at
    monkeypatch.setattr(head, "logits_at", lambda *args: logits(*args) * 2)
    result = run(tmp_path, small=True)
    assert not result.ok
    assert result.figures["loss_difference"] > 1e-4
