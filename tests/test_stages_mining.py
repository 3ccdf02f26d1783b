"""Hard prompts: what is right, which pairs are made of mixed verdicts, and what several find."""

import json

import pytest
from typer.testing import CliRunner

from data_shards.read.entry import read_shard
from data_shards.shards.sample import Sample
from data_shards.shards.shard import find_shards
from data_shards.shards.write import write_shards
from data_shards.sources.verdicts import Verdicts
from omni.processing.messages import assistant, user
from stages.cli import app
from stages.recipe.sampled import RIGHT
from stages.sampling import sample as sampling
from stages.sampling.mined import Judged, choose, correlation
from stages.sampling.verdict import RULES, is_right

GUARD = "So.\n\n" + Verdicts("harmful", "refusal", "unharmful").lines
SAYS = {
    "guard": (GUARD, GUARD.replace("So", "Thus"), GUARD.replace("refusal", "compliance")),
    "conclusion": (
        "Conclusion: right [END]",
        "Conclusion: wrong? Conclusion: Right",
        "right",
    ),
    "number": ("It is 12.", "1 and 2 is 12", "12 or 13"),
    "text": ("a", " a\n", "b"),
}


def test_a_recipe_may_name_every_rule():
    assert (*RULES,) == RIGHT


@pytest.mark.parametrize("rule", RULES)
def test_an_answer_is_right_if_it_says_what_the_real_one_does(rule):
    real, right, wrong = SAYS[rule]
    assert is_right(rule, real, right) and not is_right(rule, real, wrong)
    if rule != "text":
        assert not is_right(rule, real, "hm")
        with pytest.raises(ValueError, match=f"nothing that the rule {rule} reads"):
            is_right(rule, "hm", "hm")


def test_a_pair_is_chosen_as_asked():
    judged = Judged(["ab", "abcdef"], ["x" * 9, "xyz"])
    assert choose(judged, "longest", 0, "p") == ("abcdef", "x" * 9)
    assert choose(judged, "length-matched", 0, "p") == ("ab", "xyz")
    drawn = {choose(judged, "random", seed, "p") for seed in range(40)}
    assert len(drawn) == 4
    assert choose(judged, "random", 3, "p") == choose(judged, "random", 3, "p")


def test_length_goes_with_rightness():
    assert correlation([Judged(["aaaa"], ["a"]), Judged(["aaaa"], ["a"])]) == pytest.approx(1)
    assert correlation([Judged(["a"], ["aaa", "aaa"])]) == pytest.approx(-1)
    assert correlation([Judged(["a", "aaa"], ["a", "aaa"])]) == pytest.approx(0)
    assert correlation([Judged(["ab"], ["cd"])]) is None and correlation([]) is None


@pytest.fixture
def mine(tiny_checkpoint, tmp_path, monkeypatch):
    """Return a function that mines three prompts, which are answered as scripted."""
    write_shards([
        Sample([user(f"{n}?"), assistant(f"It is {n}.")], {},
               {"source": "t", "license": "MIT", "schema": 1})
        for n in range(3)
    ], tmp_path / "asks")  # fmt: skip
    complete = sampling.complete
    scripts = {0: ["0", "0", "0"], 1: ["1", "no, 7", "none"], 2: ["3", "4", "5"]}

    def scripted(*args, **kwargs):
        found = complete(*args, **kwargs)
        return [one._replace(text=scripts[n // 3][n % 3]) for n, one in enumerate(found)]

    monkeypatch.setattr(sampling, "complete", scripted)

    def run(*more: str, miners: int = 1):
        return CliRunner().invoke(app, [
            "sample", *[str(tiny_checkpoint)] * miners, "--prompts", str(tmp_path / "asks"),
            "--out", str(tmp_path / "hard"), "-n", "3", "--max-new-tokens", "2", *more,
        ])  # fmt: skip

    return run


@pytest.mark.parametrize("miners", [1, 2])
def test_prompts_of_mixed_verdicts_become_pairs_that_say_how_hard_they_are(mine, tmp_path, miners):
    result = mine("--pairs", "hard", "--right", "number", "--choice", "longest", miners=miners)
    assert result.exit_code == 0, result.output
    assert "1 answers; 0 prompts left out; 1 prompts always right, 1 never; length against" in (
        result.output
    )
    [pair] = [s for path in find_shards(tmp_path / "hard") for s in read_shard(path)]
    texts = [answer[0]["content"][0]["text"] for answer in (pair.chosen, pair.rejected)]
    assert texts == ["1", "no, 7"]
    assert (pair.meta["k_correct"], pair.meta["k_incorrect"]) == (miners, 2 * miners)
    manifest = json.loads((tmp_path / "hard" / "manifest.json").read_text())
    assert manifest["mined"]["mixed"] == 1 and manifest["pairs"]["choice"] == "longest"
    assert manifest["mined"]["correlation"] == pytest.approx(-0.97, abs=0.01)


@pytest.mark.parametrize(("more", "words"), [
    (["--pairs", "hard"], "right goes with pairs: hard, which needs it"),
    (["--right", "number"], "right goes with pairs: hard"),
    (["--pairs", "hard", "--right", "number", "-n", "1"], "needs at least two answers to a prompt"),
    (["--pairs", "hard", "--right", "nubmer"], "did you mean 'number'"),
    (["--pairs", "hard", "--right", "number", "--choice", "short"], "choice is random, longest"),
    (["--pairs", "hard", "--right", "guard"], "its real answer has nothing that the rule guard"),
    (["--pairs", "hard", "--right", "text"], "none is answered both rightly and wrongly"),
])  # fmt: skip
def test_what_cannot_be_mined_is_said(mine, more, words):
    result = mine(*more)
    assert result.exit_code == 2 and words in " ".join(result.output.split())
