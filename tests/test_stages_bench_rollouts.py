"""The benches of rollouts hold at a small size, and say so when what they measure is broken."""

import pytest

from omni.model import scores
from stages.bench import generalpoints, ratio, rl_resume, rollout
from stages.bench.cards import TRAIN, permuted


@pytest.mark.slow
def test_answers_are_scored_as_they_were_drawn(tmp_path):
    result = ratio.run(tmp_path, small=True)
    assert result.ok, result
    assert len(result.rows) == 9


@pytest.mark.slow
def test_placeholders_that_are_scored_too_are_found(tmp_path, monkeypatch):
    """Nothing draws them, so that all else was drawn as more likely."""
    monkeypatch.setitem(ratio.WAYS, "stop strings", {"stop": ["e"]})
    real = scores.answer_scores

    def careless(model, batch, temperature, kept=None):
        modalities, model.config.modalities = model.config.modalities, {}
        try:
            return real(model, batch, temperature, kept)
        finally:
            model.config.modalities = modalities

    monkeypatch.setattr("stages.objectives.policy.answer_scores", careless)
    monkeypatch.setattr(ratio, "MEDIA", {"text": ()})
    result = ratio.run(tmp_path, small=True)
    assert not result.ok
    assert result.figures["worst"] > 1e-3


@pytest.mark.slow
def test_groups_draw_what_single_answers_are(tmp_path):
    result = rollout.run(tmp_path, small=True)
    assert result.ok, result
    assert result.figures["equal_tokens"]


@pytest.mark.slow
def test_a_killed_rollout_stage_ends_with_the_same_bits(tmp_path):
    result = rl_resume.run(tmp_path / "x", small=True)
    assert result.ok, result


@pytest.mark.slow
def test_the_game_of_cards_runs(tmp_path):
    result = generalpoints.run(tmp_path, small=True)
    assert result.ok, result
    assert [row["arm"] for row in result.rows] == ["warm-up", "verifier", "permuted"]


def test_the_control_pays_a_group_what_it_earned_in_another_order():
    from data_shards.environments import make_environment

    world, first = make_environment(TRAIN), set()
    for seed in range(12):
        state = world.state(seed)
        texts = [world.solution(state), "1+1", "no", "2+2"]
        paid = permuted([[{"role": "assistant", "content": text}] for text in texts], [seed] * 4)
        earned = [world.verify(state, text).reward for text in texts]
        assert sorted(paid) == sorted(earned)
        first.add(paid.index(earned[0]))
    assert first == {0, 1, 2, 3}  # the right answer's reward goes to any of them
