"""The benches of rollouts hold at a small size, and say so when what they measure is broken."""

import numpy as np
import pytest

from omni.model import scores
from stages.bench import generalpoints, lcpo, navigation, ratio, reinforced, rl_resume, rollout

CLAIM = {"start": 20.0, "gain": 12.0, "at_least": 4.0, "control": 1.0, "seconds": 300,
         "parameters": 2e6}  # fmt: skip
LENGTHS = {"after": 0.9, "before": 0.05, "shuffled": -0.1, "seconds": 300}


def test_seeds_are_added_hand_by_hand():
    one = {"warm-up": {"2 3 4": [[1.0, 2.0]], "5 5 5": [[0.0, 1.0]]}}
    other = {"warm-up": {"2 3 4": [[2.0, 2.0]], "A 2 3": [[1.0, 1.0]]}}
    assert reinforced.added([one, other]) == {
        "warm-up": {"2 3 4": [[3.0, 4.0]], "5 5 5": [[0.0, 1.0]], "A 2 3": [[1.0, 1.0]]}
    }


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
@pytest.mark.parametrize("bench", [generalpoints, navigation], ids=["cards", "streets"])
def test_all_arms_of_a_world_run(tmp_path, bench):
    result = bench.run(tmp_path, small=True)
    assert result.ok, result
    assert [row["arm"] for row in result.rows] == [*reinforced.ARMS]
    assert all("" not in row.values() or row["arm"] == "warm-up" for row in result.rows)
    assert CLAIM.keys() <= result.figures.keys()


@pytest.mark.slow
def test_cards_that_are_seen_and_heard_are_learnt_in_words_first(tmp_path, monkeypatch):
    """With an ear of random weights, which need not be fetched."""
    pytest.importorskip("hibari")
    ear = ("{kind: whisper, model_config: {d_model: 32, encoder_layers: 1, "
           "encoder_attention_heads: 2, encoder_ffn_dim: 64, num_mel_bins: 80}}")  # fmt: skip
    games = {name: game._replace(overrides=[one.replace(generalpoints.EAR, ear)
                                            for one in game.overrides])
             for name, game in generalpoints.GAMES.items()}  # fmt: skip
    monkeypatch.setattr(generalpoints, "GAMES", games)
    result = generalpoints.run(tmp_path, small=True, all=True)
    assert result.ok, result
    assert [row["cards"] for row in result.rows[::5]] == ["text", "image", "spoken"]
    for variant in games:
        stages = {
            path.parent.name for path in (tmp_path / variant).glob("seed-0/verifier/*/stage.json")
        }
        assert ("words" in stages) == (variant != "text")
        assert f"gain_{variant}" in result.figures


@pytest.mark.slow
def test_the_bench_of_lengths_runs(tmp_path):
    result = lcpo.run(tmp_path, small=True)
    assert result.ok and LENGTHS.keys() <= result.figures.keys(), result
    assert [row["arm"] for row in result.rows] == ["warm-up", "verifier", "permuted"]


@pytest.mark.parametrize(
    ("bench", "good", "broken"),
    [*((reinforced, CLAIM, one) for one in (
        {"start": 5.0}, {"start": 60.0}, {"gain": 9.0}, {"at_least": -1.0}, {"control": 5.0},
        {"control": -5.0}, {"seconds": 500}, {"parameters": 4e7})),
     *((lcpo, LENGTHS, one) for one in (
         {"after": 0.7}, {"before": 0.3}, {"shuffled": 0.5}, {"shuffled": -0.5}, {"seconds": 500},
         {"after": float("nan")}))],
)  # fmt: skip
def test_a_promise_or_a_control_that_fails_is_found(bench, good, broken):
    assert bench.holds(good) and not bench.holds(good | broken)


def test_lengths_are_related_or_not():
    asked = [10, 20, 30]
    assert lcpo.correlation(asked, np.array([[11, 12], [19, 22], [31, 28]])) > 0.95
    assert lcpo.correlation(asked, np.array([[11, 31], [31, 11], [11, 31]])) == pytest.approx(0)
    assert lcpo.correlation(asked, np.full((3, 2), 40)) == 0


def test_the_control_of_lengths_pays_them_in_another_order():
    prompt, first = lcpo._talk(3, 12).messages[:1], set()
    texts, ids = ["a" * 11, "a" * 4, "b", "aa"], [[0] * n for n in (12, 5, 2, 3)]
    answers = [[{"role": "assistant", "content": text}] for text in texts]
    for seed in range(12):
        paid = lcpo.shuffled([prompt] * 4, answers, ids, [seed] * 4)
        assert sorted(paid) == pytest.approx([-0.5, 0.55, 0.65, 1.0])
        first.add(paid.index(1.0))
    assert first == {0, 1, 2, 3}


def test_a_route_is_walked_where_every_step_is():
    assert navigation.whole({"a": [[3.0, 3.0]], "b": [[2.0, 3.0]]}) == {
        "a": [[1.0, 1.0]],
        "b": [[0.0, 1.0]],
    }


def test_the_control_pays_a_group_what_it_earned_in_another_order():
    from data_shards.environments import make_environment

    world, first = make_environment(generalpoints.GAMES["text"].train), set()
    for seed in range(12):
        state = world.state(seed)
        texts = [world.solution(state), "1+1", "no", "2+2"]
        paid = generalpoints.permuted_text(
            [[{"role": "assistant", "content": text}] for text in texts], [seed] * 4
        )
        earned = [world.verify(state, text).reward for text in texts]
        assert sorted(paid) == sorted(earned)
        first.add(paid.index(earned[0]))
    assert first == {0, 1, 2, 3}  # the right answer's reward goes to any of them
