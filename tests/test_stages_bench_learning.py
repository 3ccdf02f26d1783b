"""The benches of learning run as a user runs them, and their controls are what they say."""

import pytest
from typer.testing import CliRunner

from stages.bench import cft, dpo, guard, preferences_omni, spin, thinking, toys
from stages.cli import app

# bench -> figures that keep its promise, and single ones that break it: the control's among them
GOOD = {
    spin: {"seeds": 3, "closes": 3, "margin": 1e-8, "opponents": True},
    cft: {"verdict_cft": 91, "verdict_shuffled": 55},
    guard: {"f1_sft": 91, "f1_hs_dpo": 91, "hard_sft": 50, "hard_hs_dpo": 60, "hard_swapped": 40},
    thinking: {"broken": 0, "control": 100, "control_unforced": 60, "scaling_per_1000": 9.0,
               "without_thinking": 10, "with_most": 60},
    preferences_omni: {f"{way}_{kind}": share for kind in ("image", "audio")
                       for way, share in (("before", 51), ("after", 85), ("shuffled", 49))},
}  # fmt: skip
BROKEN = [
    (spin, {"closes": 2}), (spin, {"margin": 1e-3}), (spin, {"opponents": False}),
    (cft, {"verdict_cft": 80}), (cft, {"verdict_shuffled": 91}), (cft, {"verdict_shuffled": 9}),
    (guard, {"f1_sft": 80}), (guard, {"f1_hs_dpo": 80}), (guard, {"hard_hs_dpo": 54}),
    (guard, {"hard_swapped": 50}),
    (thinking, {"broken": 1}), (thinking, {"control": 99}), (thinking, {"control_unforced": 100}),
    (thinking, {"scaling_per_1000": None}), (thinking, {"scaling_per_1000": 0.0}),
    (thinking, {"with_most": 10}),
    *((preferences_omni, {name: share}) for kind in ("image", "audio") for name, share in
      ((f"after_{kind}", 79), (f"before_{kind}", 61), (f"shuffled_{kind}", 61))),
]  # fmt: skip


@pytest.mark.parametrize(("bench", "broken"), BROKEN)
def test_a_promise_or_a_control_that_fails_is_found(bench, broken):
    assert bench.holds(GOOD[bench]) and not bench.holds(GOOD[bench] | broken)


@pytest.mark.slow
@pytest.mark.parametrize("bench", GOOD, ids=lambda bench: bench.__name__)
def test_a_bench_of_learning_runs_with_its_control(tmp_path, bench):
    result = bench.run(tmp_path / "x", small=True)
    assert result.ok, result
    assert result.rows and GOOD[bench].keys() <= result.figures.keys()


def test_critiques_are_shuffled_among_the_same_answers(tmp_path):
    toys.made(tmp_path, ["critique"], 40, 0)
    train = toys.samples(tmp_path / "critique", "train")
    found = cft._shuffled(train, 0)
    assert [one.messages[:-1] for one in found] == [one.messages[:-1] for one in train]
    assert sorted(map(toys.said, found)) == sorted(map(toys.said, train))
    moved = sum(toys.said(a) != toys.said(b) for a, b in zip(found, train, strict=True))
    assert moved > 0.9 * len(train)


@pytest.mark.slow
def test_a_step_of_dpo_costs_what_trl_says(tmp_path):
    result = dpo.run(tmp_path, small=True)
    assert result.ok and result.figures["loss_difference"] <= 1e-6
    assert result.rows[0]["step of"] == "ours" and len(result.rows) == 3


def test_a_bench_without_seeds_says_so():
    result = CliRunner().invoke(app, ["bench", "head", "--small", "--seeds", "2"])
    assert result.exit_code == 2 and "the bench head takes no --seeds" in result.stderr


def test_shuffled_media_stay_of_their_kind(tmp_path):
    toys.made(tmp_path, ["pairs"], 40, 0)
    held = toys.samples(tmp_path / "pairs", "train")
    found = preferences_omni.shuffled(held, 0)
    assert sorted(str(one.chosen) for one in found) == sorted(str(one.chosen) for one in held)
    assert [[*one.parts] for one in found] == [[ref for _, ref in one.refs()] for one in found]
    before = {str(one.meta["identity"]): one.parts for one in held}
    assert any(before[str(one.meta["identity"])] != one.parts for one in found)


@pytest.mark.slow
def test_a_bench_goes_on_in_a_folder_that_is_kept(tmp_path):
    def run():
        found = CliRunner().invoke(app, ["bench", "cft", "--small", "--folder", str(tmp_path)])
        assert found.exit_code == 0, found.output
        return found.stdout.splitlines()[-1], {p: p.stat().st_mtime for p in saved()}

    def saved():
        return sorted(tmp_path.glob("work/run-*/*/model.safetensors"))

    first, again = run(), run()
    assert first == again and len(first[1]) == 5


def test_a_bench_that_learns_nothing_takes_no_folder(tmp_path, capsys):
    assert CliRunner().invoke(app, ["bench", "ratio", "--folder", str(tmp_path)]).exit_code == 2
    assert not list(tmp_path.iterdir())
