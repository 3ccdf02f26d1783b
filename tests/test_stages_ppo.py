"""PPO: values, advantages and losses against plain formulas, and what an episode's tokens earn."""

import json
from importlib import import_module
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from data_shards.read.batch import Documents
from omni.entry import EntryError
from omni.heads.value import ValueHead
from omni.load import load
from omni.model.scores import answer_scores
from omni.processing.messages import assistant, user
from omni.processing.processor import IGNORE_INDEX
from stages.objectives import make_objective
from stages.objectives.credit import gae
from stages.objectives.task import Task
from stages.recipe.read import load_recipe
from stages.recipe.rollout import RolloutConfig
from stages.recipe.schema import RecipeError
from stages.rollouts.credit import token_rewards
from stages.rollouts.episode import Attempt, Episode
from stages.rollouts.world import environment_of
from stages.training.chain import run_recipe
from stages.training.rollouts import RolloutSteps

SHARED: Any = import_module("tests.test_stages_rollouts")  # whose world and recipe are used here
CRITIC = {"critic": {"head": {"kind": "value"}}}
WORLD = {"kind": "tests.test_stages_rollouts:Sums"}


def over_the_whole_row(rewards, values, own, gamma, lam):
    """Estimate advantages over all tokens of a conversation: those that are not own are no steps.

    As published trainers with a mask have it: values and estimates pass over what is masked.
    """
    found, following, estimate = [0.0] * len(own), 0.0, 0.0
    for t in reversed(range(len(own))):
        if own[t]:
            estimate = rewards[t] + gamma * following - values[t] + gamma * lam * estimate
            following, found[t] = values[t], estimate
    return found


def test_advantages_pass_over_what_the_model_did_not_say():
    """At .99 and .95, where it matters; at 1 and 1 a mask could be forgotten."""
    own = [True, True, True, False, False, True, True]
    rewards = [0.0, 0.0, -1.0, 9.0, 9.0, 0.0, 5.0]
    values = [0.5, 0.4, -0.3, 7.0, 7.0, 1.0, 2.0]
    mine = [n for n, one in enumerate(own) if one]
    found = gae([rewards[n] for n in mine], [*(values[n] for n in mine), 0.0], 0.99, 0.95)
    expected = over_the_whole_row(rewards, values, own, 0.99, 0.95)
    assert found == pytest.approx([expected[n] for n in mine])
    # by hand, from the end: 5 - 2; 0 + .99 * 2 - 1 + .9405 * 3; and so on
    assert found[-1] == 3.0 and found[-2] == pytest.approx(3.8015)
    assert found == pytest.approx([2.6594944, 2.9383248, 3.8653108, 3.8015, 3.0], abs=1e-6)
    unmasked = over_the_whole_row(rewards, values, [True] * 7, 0.99, 0.95)
    assert abs(unmasked[0] - found[0]) > 0.3


@pytest.mark.parametrize(("gamma", "lam", "expected"), [
    (1.0, 1.0, [2.5, 1.0]), (1.0, 0.0, [1.5, 1.0]), (0.5, 1.0, [1.0, 1.0]),
])  # fmt: skip
def test_advantages_by_hand(gamma, lam, expected):
    assert gae([0.0, 3.0], [0.5, 2.0, 0.0], gamma, lam) == pytest.approx(expected)
    assert gae([0.0], [0.5, 2.0], gamma, lam) == [gamma * 2.0 - 0.5]  # it goes on after the last


def test_a_rollout_is_whitened_as_a_whole_and_returns_are_not():
    ppo: Any = make_objective({"kind": "ppo", "gamma": 0.9})
    rewards, values = [[0.0, 1.0], [0.0, 0.0, -2.0]], [[0.1, 0.2, 0.0], [0.3, 0.2, 0.1, 0.0]]
    found = ppo.judge(rewards, values)
    plain = [gae(*of, 0.9, 0.95) for of in zip(rewards, values, strict=True)]
    flat = torch.tensor([value for row in plain for value in row])
    whole = torch.tensor([value for worth, _ in found for value in worth])
    assert torch.allclose(whole, (flat - flat.mean()) / (flat.std() + 1e-4), atol=1e-6)
    for (_, returns), row, expected in zip(found, plain, values, strict=True):
        assert returns == pytest.approx([a + v for a, v in zip(row, expected[:-1], strict=True)])
    free: Any = make_objective({"kind": "ppo", "gamma": 0.9, "whiten": False})
    assert free.judge(rewards, values)[0][0] == pytest.approx(plain[0])
    assert ppo.judge([], []) == []


def documents(processor):
    found, noise = [], torch.Generator().manual_seed(0)
    for answer in ("Four.", "Five, I am sure of it.", "4", "no"):
        encoded = processor.encode([user("Two and two?"), assistant(answer)])
        off = torch.randn(5, int((encoded.labels != IGNORE_INDEX).sum()), generator=noise)
        encoded.by_label = {
            "behaviour": off[0] / 4 - 5.5, "reference_logps": off[1] / 4 - 5.5,
            "advantages": off[2], "values": off[3] / 2, "returns": off[4],
        }  # fmt: skip
        encoded.numbers = {"temperature": 0.9, "budget": 30.0}
        found.append(encoded)
    return found


def plain_loss(model, processor, encoded, kl):
    """Return the loss of one document after the other, from the formulas alone."""
    total, tokens = torch.zeros(()), 0
    for document in encoded:
        row, told = processor.pack([document]), document.by_label
        inputs = {n: v for n, v in row.items()
                  if n not in (*told, "temperature", "budget")}  # fmt: skip
        scores = answer_scores(model, inputs, torch.full((len(told["values"]),), 0.9))
        ratio, worth = (scores.logps - told["behaviour"]).exp(), told["advantages"]
        gain = torch.minimum(ratio * worth, ratio.clamp(0.8, 1.28) * worth)
        states = scores.states[row["label_positions"][0]].detach()
        value = model.heads["critic"](states)
        held = told["values"] + (value - told["values"]).clamp(-0.2, 0.2)
        error = torch.stack([value - told["returns"], held - told["returns"]]).square().amax(0)
        away = told["reference_logps"] - scores.logps
        k3 = (away.exp() - away - 1) * ratio
        total = total + (-gain + 0.5 * error + kl * k3).sum()
        tokens += len(ratio)
    return total / tokens


@pytest.mark.parametrize("cut", [1, 2, 4])
def test_loss_and_gradients_are_those_of_the_formulas_however_a_step_is_cut(make_model, cut):
    model, processor = make_model(**CRITIC)
    torch.nn.init.normal_(model.heads["critic"].out.weight, std=0.5)
    encoded = documents(processor)
    expected = plain_loss(model, processor, encoded, 0.3)
    model.zero_grad()
    expected.backward()
    right = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    task: Any = Task(model, {"kind": "ppo", "clip_high": 0.28, "kl": 0.3})
    count = torch.tensor(float(sum(len(d.by_label["values"]) for d in encoded)))
    size, total = len(encoded) // cut, 0.0
    model.zero_grad()
    for n in range(0, len(encoded), size):
        some = encoded[n : n + size]
        labels = [len(d.by_label["values"]) for d in some]
        assert sum(task.objective.weights(Documents([*range(size)], labels=labels))) == sum(labels)
        loss = task(processor.pack(some), count).total
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(expected.item(), abs=1e-5)
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == right.keys()
    for name, gradient in found.items():
        assert torch.allclose(gradient, right[name], atol=1e-5), name
    assert {n.split(".")[0] for n in found} == {"language_model", "heads"}


def test_the_values_error_moves_the_head_alone(make_model):
    model, processor = make_model(**CRITIC)
    torch.nn.init.normal_(model.heads["critic"].out.weight, std=0.5)
    task: Any = Task(model, {"kind": "ppo", "value_weight": 3})
    encoded = documents(processor)
    for document in encoded:
        document.by_label["advantages"] = torch.zeros_like(document.by_label["advantages"])
        del document.by_label["reference_logps"]
    task(processor.pack(encoded), torch.tensor(1.0)).total.backward()
    assert model.heads["critic"].into.weight.grad.abs().max() > 0
    assert all(not p.grad.any() for p in model.language_model.parameters() if p.grad is not None)


def test_a_new_head_expects_nothing():
    assert not ValueHead(16, 4)(torch.randn(5, 16)).any()


def steps_of(processor, objective, **more: Any):
    usual: dict[str, Any] = {"prompts": 3, "group": 4, "max_new_tokens": 6}
    config = RolloutConfig(WORLD, **(usual | more))
    made: Any = make_objective({"kind": "ppo", "whiten": False} | objective)
    longest = more.get("max_length", 4096)
    return RolloutSteps(environment_of(config), config, processor, made, 0, Accelerator(cpu=True),
                        16, longest)  # fmt: skip


def test_what_tokens_are_worth_follows_from_the_head_and_from_what_each_answer_was_paid(make_model):
    model, processor = make_model(**CRITIC)
    torch.nn.init.normal_(model.heads["critic"].out.weight)
    steps = steps_of(processor, {"gamma": 0.99}, attempts=3, max_tokens=200)
    [*micro] = steps.next(model).micro
    assert len(micro) > 1
    for group in steps.groups:
        for episode in group.episodes:
            document = episode.encoded(group.prompt)
            ids, own = document.input_ids[None], document.labels != IGNORE_INDEX
            with torch.no_grad():
                states = model.language_model.get_decoder()(ids).last_hidden_state[0]
                values = model.heads["critic"](states)
            # what is expected before a token is read off the one before it
            before = torch.cat([values[:1] * 0, values])[:-1]
            assert torch.allclose(before[own], torch.tensor(episode.values[:-1]), atol=1e-4)
            assert episode.values[-1] == pytest.approx(
                values[own.nonzero()[-1, 0]].item(), abs=1e-4
            )
            assert len(episode.attempts) > 1 and not own[own.nonzero()[0, 0] :].all()
            paid, at = torch.zeros(len(ids[0])), 0
            places = own.nonzero()[:, 0]
            for attempt in episode.attempts:
                at += len(attempt.ids)
                paid[places[at - 1]] = attempt.reward
            expected = over_the_whole_row(paid.tolist(), before.tolist(), own.tolist(), 0.99, 0.95)
            assert episode.worth == pytest.approx([expected[n] for n in places], abs=1e-3)


def episode(rewards, finish="stop", **more: Any):
    attempts = [Attempt([7, 8], [-1.0, -2.0], [], "", finish if n == len(rewards) - 1 else "stop",
                        paid, False, "no") for n, paid in enumerate(rewards)]  # fmt: skip
    usual: dict[str, Any] = {"reward": sum(rewards)}
    return Episode(attempts, **(usual | more))


@pytest.mark.parametrize(
    ("one", "arguments", "expected"),
    [(episode([-1.0, 5.0]), (True, 0.0, False), [0, -1, 0, 5]),
     (episode([-1.0, 5.0]), (False, 0.0, False), [0, 0, 0, 4]),
     # a fine of a half, and a divergence of 1 and of -1 nats that is a part of the reward
     (episode([3.0], reward=2.5), (True, 0.0, False), [0, 2.5]),
     (episode([3.0], reward=3.0, reference=[-2.0, -1.0]), (True, 0.1, False), [-0.1, 3.1]),
     # cut: its verdict counts, or not; what came before it does
     (episode([-1.0, -3.0], "length"), (True, 0.0, False), [0, -1, 0, -3]),
     (episode([-1.0, -3.0], "length"), (True, 0.0, True), [0, -1, 0, 0]),
     (episode([-3.0], "length", reward=-3.5), (True, 0.0, True), [0, -0.5]),
     (episode([-3.0], "length", reward=0.2), (False, 0.0, True), [0, 0])],
)  # fmt: skip
def test_what_each_token_earned(one, arguments, expected):
    assert token_rewards(one, *arguments) == pytest.approx(expected)


@pytest.mark.parametrize("truncated", ["end", "bootstrap"])
def test_what_was_cut_ends_or_goes_on_with_its_own_value(make_model, truncated):
    model, processor = make_model(**CRITIC)
    torch.nn.init.constant_(model.heads["critic"].out.bias, 2.0)  # 2 wherever one is
    steps = steps_of(processor, {"lam": 0, "truncated": truncated}, group=16)
    steps.next(model)
    every = [e for group in steps.groups for e in group.episodes]
    assert {e.cut for e in every} == {True, False}
    for one in every:
        goes_on = one.cut and truncated == "bootstrap"
        last = 0.0 if goes_on else one.reward - 2.0
        assert one.worth == pytest.approx([0.0] * (one.length - 1) + [last])


def test_a_conversation_without_room_for_another_answer_is_truncated(make_model):
    model, processor = make_model(**CRITIC)
    torch.nn.init.constant_(model.heads["critic"].out.bias, 2.0)
    free = steps_of(processor, {}, attempts=2)
    free.next(model)
    assert not any(e.open for group in free.groups for e in group.episodes)  # all that there are
    length = max(len(group.prompt) for group in free.groups) + 6
    steps = steps_of(processor, {"lam": 0, "truncated": "bootstrap"}, attempts=2, max_length=length)
    steps.next(model)
    every = [e for group in steps.groups for e in group.episodes if not e.success]
    assert every and all(e.open and len(e.attempts) == 1 for e in every)
    for one in every:
        assert one.worth[-1] == pytest.approx(0.0 if one.cut else one.reward)


PPO = SHARED.RECIPE.replace("objective: {{kind: grpo}}", "objective: {{kind: ppo}}").replace(
    "{{language_model: 3.0e-3}}", "{{language_model: 3.0e-3, heads: 1.0e-2}}"
)


def test_the_value_head_is_saved_and_a_run_goes_on_to_the_bit(tmp_path, monkeypatch):
    attached = PPO.replace(
        "    trainable", "    attach: {{critic: {{head: {{kind: value}}}}}}\n    trainable"
    )
    monkeypatch.setattr(SHARED, "RECIPE", attached)
    for name in "ab":
        (tmp_path / name).mkdir()
    whole = SHARED.trained(tmp_path / "a", monkeypatch)
    with pytest.raises(BaseException, match="137"):
        SHARED.trained(tmp_path / "b", monkeypatch, 4)
    again = SHARED.trained(tmp_path / "b", monkeypatch)
    assert {n: row["loss"] for n, row in whole.items()} == {n: r["loss"] for n, r in again.items()}
    assert {"value", "value.error"} <= whole[1].keys()
    weights = [(tmp_path / name / "run/rl/model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    model: Any = load(tmp_path / "a/run/rl")[0]
    assert model.head_of("value") == "critic" and model.heads["critic"].out.weight.any()
    assert json.loads((tmp_path / "a/run/rl/stage.json").read_text())["frozen_ok"]


def test_a_model_without_a_value_head_is_refused_before_the_run(tmp_path):
    (tmp_path / "r.yaml").write_text(PPO.replace(", heads: 1.0e-2", "").format(root=tmp_path))
    with pytest.raises((RecipeError, EntryError, ValueError), match=r"ppo needs a value, .*attach"):
        run_recipe(load_recipe(tmp_path / "r.yaml"), Accelerator(cpu=True))


@pytest.mark.parametrize(
    ("options", "rule"),
    [({"gamma": 0}, "gamma is above 0"), ({"lam": 1.5}, "lam is between 0 and 1"),
     ({"value_weight": -1}, "at least 0"), ({"value_clip": -0.1}, "at least 0"),
     ({"clip": 1}, "clip is above 0"), ({"truncated": "stop"}, "truncated is end or bootstrap"),
     ({"lambda": 0.9}, "did you mean 'lam'")],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(options, rule):
    with pytest.raises(EntryError, match=rule):
        make_objective({"kind": "ppo", **options})
