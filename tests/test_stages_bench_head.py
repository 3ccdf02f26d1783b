"""`omni-train bench head`: it holds, and it would tell."""

from omni.model import head
from stages.bench.head import run


def test_labels_alone_cost_less_memory_and_change_nothing(tmp_path):
    result = run(tmp_path, small=True)
    assert result.ok, result.line()
    assert result.figures["loss_difference"] <= 1e-6
    assert result.figures["memory_cut"] >= 0.55
    assert result.figures["memory_cut_chunked"] > result.figures["memory_cut"]


def test_logits_at_every_position_are_seen(tmp_path, monkeypatch):
    def everywhere(language_model, decoded, hidden):
        logits = language_model.lm_head(decoded.last_hidden_state)[0]
        return logits[: len(hidden)]

    monkeypatch.setattr(head, "logits_at", everywhere)
    result = run(tmp_path, small=True)
    assert not result.ok
    assert result.figures["loss_difference"] > 1e-6
    assert result.figures["memory_cut"] < 0.55
