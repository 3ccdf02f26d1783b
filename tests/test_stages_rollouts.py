"""Rollouts: one record of what was drawn, the same bits after a kill, faults by name."""

import json
import threading
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from omegaconf import OmegaConf

from data_shards.environments import Verdict
from data_shards.environments.base import draws
from data_shards.read.quarantine import TooManyBad
from omni.entry import EntryError
from omni.files.jsonl import read_lines
from omni.processing.messages import image, user
from omni.processing.processor import IGNORE_INDEX
from stages.doctor.planned import plan_stages
from stages.doctor.verdict import diagnose
from stages.engine.signals import Interrupted
from stages.objectives import make_objective
from stages.objectives.policy import score_labels
from stages.recipe.read import load_recipe, read_places
from stages.recipe.rollout import RolloutConfig, rollout_of
from stages.recipe.schema import RecipeError
from stages.report.page import write_page
from stages.rollouts.episode import Attempt, Episode, Group, record_of
from stages.rollouts.play import Play
from stages.rollouts.rows import Rows
from stages.rollouts.watch import PATIENCE, Watch, figures_of
from stages.rollouts.world import check_rollouts, environment_of
from stages.training.chain import run_recipe
from stages.training.rollouts import RolloutSteps
from stages.training.trainer import Trainer

RECIPE = """\
output: {root}/run
text: tiny:llama
precision: fp32
trackers: []
save_seconds: 0
stages:
  - name: rl
    trainable: {{language_model: 3.0e-3}}
    objective: {{kind: grpo}}
    rollout:
      environment: {{kind: "tests.test_stages_rollouts:Sums"}}
      prompts: 3
      group: 4
      max_new_tokens: 6
      updates: 2
      top_p: 0.9
    steps: 6
"""
PNG: Any = None


class Sums:
    """A sum to answer; pays for its digits, and replies what was wrong."""

    name = "sums"

    def __init__(self, fault: str = "", shown: str = "", long: int = 0, long_at: int | None = None):
        self.fault, self.shown, self.long, self.long_at = fault, shown, long, long_at

    def state(self, seed):
        return {"seed": seed, "a": seed % 5, "b": seed % 3}

    def prompt(self, state):
        long = self.long_at in (None, state["seed"])
        text = f"{state['a']}+{state['b']}=" + "." * self.long * long
        return ([user(image("img0.png"), text)], {"img0.png": PNG}) if self.shown else (
            [user(text)], {})  # fmt: skip

    def verify(self, state, answer):
        if self.fault == "raises" and state["seed"] % 2:
            raise KeyError("lost")
        if self.fault == "hangs" and state["seed"] % 2:
            threading.Event().wait(30)
        paid = sum(letter in "aeiou0123456789" for letter in answer)
        right = answer == self.solution(state)
        return Verdict(
            float("nan") if self.fault == "nan" else paid, right, False, "no: <|im_end|>"
        )

    def solution(self, state):
        return str(state["a"] + state["b"])


def config_of(**more: Any):
    entry = {"kind": "tests.test_stages_rollouts:Sums"} | more.pop("world", {})
    usual: dict[str, Any] = {"prompts": 3, "group": 4, "max_new_tokens": 6}
    return RolloutConfig(entry, **(usual | more))


def play_of(processor, config):
    return Play(environment_of(config), processor, config, 4096)


def steps_of(processor, config, objective: Any = "grpo", limit=16):
    made: Any = make_objective(objective)
    return RolloutSteps(environment_of(config), config, processor, made, 0, Accelerator(cpu=True),
                        limit, 4096)  # fmt: skip


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("shown", ["", "image"])
def test_what_was_drawn_is_one_record_and_is_scored_as_it_was_drawn(
    make_model, make_picture, specs, monkeypatch, attempts, shown
):
    monkeypatch.setitem(globals(), "PNG", make_picture(1))
    model, processor = make_model(vision=specs.vision)
    config = config_of(attempts=attempts, world={"shown": shown}, top_p=0.9, temperature=0.8)
    groups = play_of(processor, config).groups(model, range(3), "salt")
    assert [len(group.episodes) for group in groups] == [4, 4, 4]
    for group in groups:
        for episode in group.episodes:
            document = episode.encoded(group.prompt)
            own = document.input_ids[document.labels != IGNORE_INDEX].tolist()
            assert own == [i for attempt in episode.attempts for i in attempt.ids]
            assert episode.reward == sum(attempt.reward for attempt in episode.attempts)
            text = processor.tokenizer.decode(document.input_ids)
            replies = text.count("no: <|im_end|>")  # words, in which no special token is read
            assert replies == len(episode.attempts) - 1
    [batch] = Rows(processor, config).batches(groups, 1)
    shared = batch.tensors.get("vision_pixel_values")
    assert shared is None or len(shared) == 3  # an image of a group is encoded once
    _, labels, _ = score_labels(model, batch.tensors)
    assert len(labels.logps) == batch.counts["label_tokens"]
    assert (labels.logps - labels.behaviour).abs().max() < 1e-5


def test_a_scripted_player_succeeds_with_three_attempts_and_not_with_two(make_model, monkeypatch):
    """Wrong, wrong, right: what was answered is told apart by turn, and only open rows go on."""
    from stages.rollouts import play as module

    model, processor = make_model()
    real, turns = module.complete, []

    def scripted(model, processor, batch, how, **kwargs):
        found = real(model, processor, batch, how, **kwargs)
        turns.append(len(found))
        said = "1" if len(turns) % 3 == 0 else "?"
        return [one._replace(text=said) for one in found]

    monkeypatch.setattr(module, "complete", scripted)
    for attempts, success in ((2, False), (3, True)):
        turns.clear()
        config = config_of(attempts=attempts, group=2)
        [group] = play_of(processor, config).groups(model, [15], "salt")  # 0+0
        assert not any(episode.success for episode in group.episodes)
        turns.clear()
        [group] = play_of(processor, config).groups(model, [21], "salt")  # 1+0
        assert {episode.success for episode in group.episodes} == {success}
        assert turns == [2] * attempts


def test_draws_follow_from_salt_and_seed_and_not_from_who_else_is_asked(make_model):
    model, processor = make_model()
    play = play_of(processor, config_of())
    drawn = play.groups(model, [5, 6, 7], "a")
    alone, other = play.groups(model, [6], "a"), play.groups(model, [6], "b")
    ids = [[e.attempts[0].ids for e in group[0].episodes] for group in (drawn[1:], alone, other)]
    assert ids[0] == ids[1] != ids[2]


def flat_then_not(monkeypatch, flat):
    """Let the groups of some prompts earn the same for all answers."""
    real = Play.judge

    def judge(self, row, completion):
        real(self, row, completion)
        number = row.seed % 100
        row.episode.reward = 1.0 if number in flat else float(row.number)

    monkeypatch.setattr(Play, "judge", judge)


def test_groups_without_a_spread_are_replaced_and_surplus_is_carried_over(make_model, monkeypatch):
    model, processor = make_model()
    flat_then_not(monkeypatch, flat={0, 2})
    steps = steps_of(processor, config_of(rounds=3))
    steps.next(model)
    assert [group.seed for group in steps.groups] == [1, 3, 4]
    assert [row["seed"] for row in steps.state_dict()["surplus"]] == [5]
    steps.next(model)
    assert [group.seed for group in steps.groups] == [5, 6, 7]
    assert steps.finish()["rollout.flat"] == 2


def test_all_flat_trains_on_nothing_and_is_named(make_model, monkeypatch):
    model, processor = make_model()
    flat_then_not(monkeypatch, flat=set(range(100)))
    steps = steps_of(processor, config_of(rounds=2))
    found = [steps.next(model) for _ in range(PATIENCE)]
    assert [len(step.micro) for step in found] == [1] * PATIENCE
    assert not any(step.micro[0].counts["label_tokens"] for step in found)
    assert [len([w for w in step.warnings if "earn the same" in w]) for step in found] == [
        *[0] * (PATIENCE - 1), 1]  # fmt: skip


def test_two_ranks_draw_what_one_draws_and_share_the_rows(make_model, monkeypatch):
    """Each draws its prompts; both know all answers, and none is learnt from twice."""
    model, processor = make_model()
    config = config_of(batch=1, max_tokens=1)
    alone = steps_of(processor, config)
    whole = alone.next(model)
    met, found, box = threading.Barrier(2, timeout=120), {}, [None, None]

    def gather(mine):
        box[threading.current_thread().rank] = mine[0]  # type: ignore[attr-defined]
        met.wait()
        everyone = [*box]
        met.wait()
        return everyone

    monkeypatch.setattr("stages.training.rollouts.gather_object", gather)

    def rank(number, model):
        threading.current_thread().rank = number  # type: ignore[attr-defined]
        steps = steps_of(processor, config)
        steps.accelerator = SimpleNamespace(  # type: ignore[assignment]
            num_processes=2, process_index=number, autocast=nullcontext
        )
        found[number] = steps.next(model), steps.groups

    threads = [threading.Thread(target=rank, args=(n, make_model()[0])) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _, groups in found.values():
        assert record_of(groups) == record_of(alone.groups)
    packs = [batch.pack for step, _ in found.values() for batch in step.micro]
    assert sorted(packs) == [batch.pack for batch in whole.micro] == [*range(12)]


def episode(ids, reward=0.0, finish="stop", logp=-1.0):
    return Episode([Attempt(ids, [logp] * len(ids), [], "", finish, reward, False, "no")], reward)


def test_a_collapse_is_named_once_it_lasts(make_model):
    _, processor = make_model()
    prompt = processor.encode([user("?")], generation=True)

    def warned(count, *episodes):
        found = []
        for _ in range(count):
            found += watch.note(figures_of([Group(0, [], prompt, list(episodes))], 1.0))
        return found

    watch = Watch()
    healthy = [episode([1] * 10, 1.0), episode([1] * 20)]
    assert warned(PATIENCE * 2, *healthy) == []
    short = [episode([1], 1.0), episode([1])]
    assert [w.split(" to ")[0] for w in warned(PATIENCE * 2, *short)] == ["answers collapsed"]
    sure = [episode([1] * 10, 1.0, logp=-0.01), episode([1] * 20, logp=-0.01)]
    assert [w.split(" to ")[0] for w in warned(PATIENCE, *sure)] == ["entropy collapsed"]
    cut = [episode([1] * 10, 1.0, "length"), episode([1] * 20, finish="length")]
    assert [w.split(" are ")[0] for w in warned(PATIENCE, *cut)] == ["100% of the answers"]


def test_answers_cut_at_their_longest_are_filtered_or_fined(make_model):
    model, processor = make_model()
    config = config_of(group=8)
    kept = steps_of(processor, config, {"kind": "grpo", "overlong": "filter"})
    kept.next(model)
    cut = kept.finish()["rollout.filtered"]
    assert cut and sum(len(group.episodes) for group in kept.groups) == 24 - cut
    fined, free = (steps_of(processor, config, {"kind": "grpo", "overlong_cache": cache})
                   for cache in (6, 0))  # fmt: skip
    fined.next(model)
    free.next(model)
    longest = [e for g in free.groups for e in g.episodes if e.cut]
    assert longest[0].reward - 1 in [e.reward for g in fined.groups for e in g.episodes]


def test_an_environment_that_raises_is_left_out_counted_and_ends_a_stage(make_model):
    model, processor = make_model()
    steps = steps_of(processor, config_of(world={"fault": "raises"}), limit=4)
    steps.next(model)
    assert [group.seed for group in steps.groups] == [0, 2]
    assert steps.finish()["rollout.lost.faults"] == 4
    with pytest.raises(TooManyBad, match=r"12 of .*Sums.*, the first: .*:1: .*KeyError: 'lost'"):
        steps.next(model)
        steps.next(model)


def test_an_environment_that_does_not_return_is_left_out_and_named(make_model):
    model, processor = make_model()
    steps = steps_of(processor, config_of(world={"fault": "hangs"}), limit=4)
    steps.play.environment.seconds = 0.1
    steps.next(model)
    assert [group.seed for group in steps.groups] == [0, 2]
    assert steps.finish()["rollout.lost.faults"] == 4
    [(_, first)] = steps.play.losses.first.items()
    assert "seed 1: verify did not return within 0.1 seconds" in first


@pytest.mark.parametrize("objective", ["grpo", "ppo"])
def test_prompts_longer_than_the_window_are_left_out_and_named(make_model, objective):
    model, processor = make_model(critic={"head": {"kind": "value"}})
    config = config_of(world={"long_at": 1, "long": 90}, max_length=100)
    steps = steps_of(processor, config, objective, limit=1)
    steps.next(model)
    assert [group.seed for group in steps.groups] == [0, 2]
    [(kind, first)] = steps.play.losses.first.items()
    assert kind == "prompts" and ":1: its prompt has" in first and "lower max_new_tokens" in first
    every = steps_of(processor, config_of(world={"long": 90}, max_length=100), objective, limit=3)
    step = every.next(model)  # nothing is left: a step without labels, which moves nothing
    assert not every.groups and not step.micro[0].counts["label_tokens"]
    with pytest.raises(TooManyBad, match=r"6 of .*\(prompts\), the first: .*:0: its prompt has"):
        every.next(model)


def test_a_group_without_a_spread_moves_nothing(make_model, monkeypatch):
    """Of three groups, one earns the same for all: its answers are worth exactly 0."""
    model, processor = make_model()
    flat_then_not(monkeypatch, flat={1})
    for entry in ("grpo", {"kind": "grpo", "advantage": "batch"}, "reinforce"):
        steps = steps_of(processor, config_of(), entry)
        steps.next(model)
        worth = [{e.advantage for e in group.episodes} for group in steps.groups]
        assert worth[1] == {0.0} and len(worth[0]) == len(worth[2]) == 4


def test_what_pays_nan_is_named(make_model):
    model, processor = make_model()
    with pytest.raises(TooManyBad, match="paid nan, not a finite number"):
        steps_of(processor, config_of(world={"fault": "nan"}), limit=1).next(model)


@pytest.mark.parametrize(
    ("more", "rule"),
    [({"world": {"long": 90}, "max_length": 100}, r"prompt has \d+ tokens, which leaves .* 100"),
     ({"world": {"shown": "image"}}, "the model has no encoder for it"),
     ({"reward": "nowhere:at_all"}, "reward 'nowhere:at_all' cannot be imported"),
     ({"world": {"fault": 1, "faults": 2}}, "faults")],
)  # fmt: skip
def test_prompts_that_cannot_be_asked_are_refused_before_the_run(
    make_model, make_picture, monkeypatch, tmp_path, more, rule
):
    monkeypatch.setitem(globals(), "PNG", make_picture(1))
    model, processor = make_model()
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.format(root=tmp_path))
    stage = load_recipe(path).stages[0]
    world = stage.rollout["environment"] | more.pop("world", {})
    stage.rollout = stage.rollout | more | {"environment": world}
    with pytest.raises(EntryError, match=rule):
        check_rollouts(stage, model, processor)


def paid_by_length(completions, a, **columns):
    return [float(len(c[0]["content"]) + n) for c, n in zip(completions, a, strict=True)]


PAID: dict[str, Any] = {
    "too few": (lambda n: [0.0] * (n - 1), "returned 3 rewards for 4 answers"),
    "a group, not answers": (lambda n: torch.zeros(1, n), "returned 1 rewards for 4 answers"),
    "a column": (lambda n: torch.zeros(n, 1), r"returned \[0.0\], not a finite number"),
    "words": (lambda n: ["much"] * n, "returned 'much', not a finite number"),
    "nothing": (lambda n: None, "returned None for 4 answers"),
    "one number": (lambda n: 1.0, "returned 1.0 for 4 answers"),
    "one tensor": (lambda n: torch.tensor(1.0), "returned 1.0 for 4 answers"),
    "a dict": (lambda n: dict.fromkeys(range(n), 1.0), "returned {.*} for 4 answers"),
    "a string": (lambda n: "1234", "returned '1234' for 4 answers"),
    "nan": (lambda n: [float("nan")] * n, "returned nan, not a finite number"),
    "none of them": (lambda n: [None] * n, "returned None, not a finite number"),
    "an error": (lambda n: 1 / 0, "raised ZeroDivisionError"),
}
paid: str = ""


def paid_wrongly(completions, **columns):
    return PAID[paid][0](len(completions))


def test_a_reward_function_pays_instead(make_model):
    model, processor = make_model()
    steps = steps_of(processor, config_of(reward=f"{__name__}:paid_by_length"))
    steps.next(model)
    for group in steps.groups:
        expected = [len(e.attempts[0].text) + group.seed % 5 for e in group.episodes]
        assert group.rewards == expected


@pytest.mark.parametrize("wrong", PAID)
def test_a_reward_function_of_the_wrong_shape_is_named(make_model, monkeypatch, wrong):
    model, processor = make_model()
    monkeypatch.setitem(globals(), "paid", wrong)
    with pytest.raises(ValueError, match=f"reward {__name__}:paid_wrongly {PAID[wrong][1]}"):
        steps_of(processor, config_of(prompts=1, reward=f"{__name__}:paid_wrongly")).next(model)


def test_a_length_that_is_asked_for_is_in_the_prompt_and_in_the_reward(make_model):
    model, processor = make_model()
    config = config_of(length={"kind": "exact", "least": 2, "most": 9, "alpha": 0.1})
    play = play_of(processor, config)
    asked = {play.tokens(seed) for seed in range(40)}
    assert asked == set(range(2, 10))
    same = [int(draws("length", seed).integers(2, 10)) for seed in range(40)]
    assert [play.tokens(seed) for seed in range(40)] == same
    [group] = play.groups(model, [3], "salt")
    assert group.messages[-1]["content"][-1]["text"] == f" Think for {play.tokens(3)} tokens."
    for one in group.episodes:
        assert one.reward == pytest.approx(one.success - 0.1 * abs(play.tokens(3) - one.length))


def test_lengths_that_are_held_out_are_never_asked_for(make_model):
    _, processor = make_model()
    length = {"least": 2, "most": 30, "heldout": 0.4}
    config = config_of(length=length)
    assert config.asked
    play, unseen = play_of(processor, config), set(config.asked.lengths("heldout"))
    assert {play.tokens(seed) for seed in range(400)} == set(range(2, 31)) - unseen
    assert 5 < len(unseen) < 20


def test_the_divergence_counts_in_the_reward_or_in_the_loss(make_model):
    model, processor = make_model()
    entry = {"kind": "grpo", "kl": 0.5, "kl_in": "reward"}
    plain, steps = steps_of(processor, config_of()), steps_of(processor, config_of(), entry)
    moved, _ = make_model()
    steps.objective.extra = moved
    with torch.no_grad():
        for parameter in moved.language_model.parameters():
            parameter *= 1.1
    plain.next(model)
    steps.next(model)
    for before, after in zip(plain.groups, steps.groups, strict=True):
        for one, other in zip(before.episodes, after.episodes, strict=True):
            away = sum(other.logps) - sum(other.reference)
            assert other.reward == pytest.approx(one.reward - 0.5 * away)


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [("group", "1", "group is a whole number from 2, not 1"),
     ("temperature", "0", "temperature is above 0"), ("groups", "8", "did you mean 'group'"),
     ("length", "{kind: exakt}", "did you mean 'exact'"),
     ("length", "{least: 9, most: 3}", r"most \(3\) is below least \(9\)"),
     ("length", "{heldout: 1}", "heldout is a share from 0 and below 1, not 1"),
     ("length", "{least: 9, most: 9, heldout: 0.999}", "leaves no length from 9 to 9")],
)  # fmt: skip
def test_values_of_a_rollout_that_cannot_be_are_refused_with_their_line(tmp_path, key, value, rule):
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.format(root=tmp_path))
    with pytest.raises(RecipeError, match=rf"stage 'rl': .*{rule}"):
        load_recipe(path, [f"stages.rl.rollout.{key}={value}"])


@pytest.mark.parametrize(
    ("override", "rule"),
    [("objective=sft", "a rollout is for grpo"), ("rollout={}", "needs data.mixture"),
     ("rollout={prompts: 3}", "the key 'environment' is required")],
)  # fmt: skip
def test_an_objective_and_what_it_learns_from_belong_together(tmp_path, override, rule):
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.format(root=tmp_path))
    with pytest.raises(RecipeError, match=rule):
        load_recipe(path, [f"stages.rl.{override}"])
    assert rollout_of({"environment": "sums"}).kind == "sums"


def trained(folder, monkeypatch, stop_at=0):
    """Run the recipe; return the steps' losses, or interrupt it before an update."""
    (folder / "r.yaml").write_text(RECIPE.format(root=folder))
    recipe, real = load_recipe(folder / "r.yaml"), Trainer.update

    def update(self, step):
        if step.number == stop_at:
            raise Interrupted(137)
        return real(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", update)
        run_recipe(recipe, Accelerator(cpu=True))
    return {row["step"]: row for row in read_lines(folder / "run" / "log.jsonl") if "step" in row}


@pytest.mark.parametrize("stop_at", [4, 5])
def test_a_run_ended_between_the_updates_of_a_rollout_or_before_one_goes_on_to_the_bit(
    tmp_path, monkeypatch, stop_at
):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = trained(tmp_path / "a", monkeypatch)
    with pytest.raises(Interrupted):
        trained(tmp_path / "b", monkeypatch, stop_at)
    again = trained(tmp_path / "b", monkeypatch)
    assert {n: row["loss"] for n, row in whole.items()} == {n: r["loss"] for n, r in again.items()}
    weights = [(tmp_path / name / "run/rl/model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    assert whole[2]["ratio.off"] > whole[1]["ratio.off"] < 1e-5  # a second update has moved away
    assert {"reward", "solved", "generated_tokens_per_s", "surprise"} <= whole[1].keys()
    assert json.loads((tmp_path / "a/run/rl/stage.json").read_text())["totals"]["rollout.prompts"]


def test_the_report_shows_what_was_learnt_from(tmp_path, monkeypatch):
    rows = trained(tmp_path, monkeypatch)
    recipe = OmegaConf.structured(load_recipe(tmp_path / "r.yaml"))
    (tmp_path / "run/recipe.yaml").write_text(OmegaConf.to_yaml(recipe))
    page = write_page(tmp_path / "run", tmp_path / "none").read_text()
    assert page.count("<summary>step") == len(rows) / 2
    assert "What rl learns from" in page
    assert "no: &lt;|im_end|&gt;" in page
    assert "rollouts: mean reward" in page


def test_nothing_of_a_rollout_is_planned_and_the_doctor_says_so(tmp_path, capsys):
    (tmp_path / "r.yaml").write_text(RECIPE.format(root=tmp_path))
    path = tmp_path / "r.yaml"
    recipe = load_recipe(path)
    plan_stages(recipe, recipe.stages, 1, None, as_json=True)
    assert capsys.readouterr().out.strip() == "{}"
    assert diagnose(recipe, read_places(path), recipe.stages, 2)
    said = capsys.readouterr().out
    assert "its prompts can be asked" in said
    assert said.strip().endswith("go")
