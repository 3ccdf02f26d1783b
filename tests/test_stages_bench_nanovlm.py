"""`scripts/bench_nanovlm.sh`: what can be said without a checkout of the peer."""

import sys
from itertools import repeat

import pytest

from stages.bench import nanovlm
from stages.bench.nanovlm import Update, run


@pytest.mark.parametrize(("pace", "ok"), [(1.0, True), (1e6, False)])
def test_the_promise_is_kept_only_if_ours_is_faster(tmp_path, monkeypatch, pace, ok):
    def peer(folder, samples, batch, accumulate):
        yield from repeat(Update(1.0, 1.0, round(pace)))

    monkeypatch.setattr(nanovlm, "SEQUENCE", 256)
    monkeypatch.setattr(nanovlm, "LLM", nanovlm.LLM | {"width": 64, "depth": 1})
    result = run(tmp_path, small=True, peer=peer)
    assert result.ok is ok
    ours, theirs = result.rows
    assert theirs["useful tokens / s"] == pace
    assert 1 < ours["useful tokens / s"] < 1e6
    ratio = ours["useful tokens / s"] / pace
    assert result.figures["vs_nanovlm_2"] == pytest.approx(ratio, rel=0.05, abs=0.02)


def test_without_a_checkout_the_usage_is_told(monkeypatch, capsys, tmp_path):
    for words in ([], [str(tmp_path)]):
        monkeypatch.setattr(sys, "argv", ["nanovlm", *words])
        with pytest.raises(SystemExit) as stop:
            nanovlm.main()
        assert stop.value.code == 2
        assert "usage: scripts/bench_nanovlm.sh DIR" in capsys.readouterr().err
