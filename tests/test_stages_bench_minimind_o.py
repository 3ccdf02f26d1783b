"""`scripts/bench_minimind_o.sh`: what can be said without a checkout of the peer."""

import sys
from itertools import repeat

import pytest

from omni.model.forward import load_text_tokenizer
from stages.bench import minimind_o
from stages.bench.minimind_o import run
from stages.bench.nanovlm import Update


@pytest.mark.parametrize(("shipped", "cut", "ok"), [(1, 2, True), (1e6, 2, False), (1, 1e6, False)])
def test_the_promise_is_kept_only_if_ours_is_faster(tmp_path, monkeypatch, shipped, cut, ok):
    def peer(folder, talks):
        assert {bool(talk.jpg) for talk in talks} == {True, False}
        return {name: (one for one in repeat(Update(1.0, 1.0, int(pace))))
                for name, pace in (("shipped", shipped), ("cut", cut))}  # fmt: skip

    monkeypatch.setattr(minimind_o, "WIDTH", 32)
    monkeypatch.setattr(minimind_o, "INNER", 64)
    monkeypatch.setattr(minimind_o, "ROUNDS", 1)
    monkeypatch.setattr(minimind_o, "SAMPLES", 40)
    load_text_tokenizer("tiny:llama").save_pretrained(tmp_path / "words")
    result = run(tmp_path / "work", peer=peer, tokenizer=str(tmp_path / "words"))
    assert result.ok is ok
    ours, *others = result.rows
    assert [row["useful tokens / CPU-second"] for row in others] == [shipped, cut]
    assert 2 < ours["useful tokens / CPU-second"] < 1e6
    assert ours["useful tokens of an update"] > 500  # of at most 1,024


def test_without_a_checkout_the_usage_is_told(monkeypatch, capsys, tmp_path):
    for words in ([], [str(tmp_path)]):
        monkeypatch.setattr(sys, "argv", ["minimind_o", *words])
        with pytest.raises(SystemExit) as stop:
            minimind_o.main()
        assert stop.value.code == 2
        assert "usage: scripts/bench_minimind_o.sh DIR" in capsys.readouterr().err
