"""What `plan` says an epoch is, is what the plan that trains delivers."""

import json
from collections import Counter
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from data_shards.bench.lengths import Numbered, lengths_of, plan_of
from data_shards.cli import app
from data_shards.outlook import parse_shards
from data_shards.plan.epoch import survey
from data_shards.plan.plan import deal
from data_shards.shards.sample import Sample
from data_shards.shards.write import write_shards
from omni.entry import EntryError
from omni.processing.messages import assistant, image, user

META = {"source": "x", "license": "x", "schema": 1}
SIZES = {"text": 900, "pictures": 400, "everything": 300}
VARIANTS = {
    "samples": {},
    "tokens": {"by": "tokens", "mixture": {"text": 0.5, "pictures": 0.3, "everything": 0.2}},
    "skipped": {"max_length": 1500, "packs_per_step": 4},
    "split": {"max_length": 700, "overlong": "split"},
    "schedule": {"mixture": {"text": {0: 1, 3: 0.2}, "pictures": {3: 0.8}}},
    "in order": {"max_tokens": None, "max_samples": 6, "max_length": 8192},
}


def make(**changes):
    sizes = {name: SIZES[name] for name in changes.get("mixture", SIZES)}
    return plan_of({n: lengths_of(n, size) for n, size in sizes.items()},
                   **{"packs_per_step": 2, "window": 64} | changes)  # fmt: skip


@pytest.fixture(autouse=True)
def numbered(monkeypatch):
    """Let sources that are nothing but lengths say where a sample lies, too."""
    monkeypatch.setattr(Numbered, "bad", [], raising=False)
    entry = lambda self, row: SimpleNamespace(where=f"x.tar:{row}")  # noqa: E731
    monkeypatch.setattr(Numbered, "entry", entry, raising=False)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_the_survey_counts_what_the_plan_delivers(changes):
    plan = make(**changes)
    found = survey(plan, ranks=2)
    steps = list(islice(plan.steps(), found.steps))
    items = [[i for pack in step.packs for i in pack.items] for step in steps]
    every = [item for step in items for item in step]
    for part in found.parts:
        kept = len(plan.sources[part.name]) - len(plan.fates(part.name)["skipped"])
        seen, ends = set(), None
        for number, step in enumerate(items, 1):
            seen |= {item.row for item in step if item.source == part.name}
            if ends is None and len(seen) == kept:
                ends = number
        assert (part.epoch, part.exact) == (ends, True)
        counted = {fate: len(rows) for fate, rows in plan.fates(part.name).items() if len(rows)}
        assert {fate: count for fate, (count, _) in part.fates.items()} == counted
    assert found.whole == found.steps == max(part.epoch for part in found.parts)
    unit = Counter()
    for item in every:
        unit[item.source] += item.tokens if plan.config.by == "tokens" else item.piece == 0
    shares = {name: count / unit.total() for name, count in unit.items()}
    assert {part.name: part.got for part in found.parts} == pytest.approx(shares)
    assert all(abs(part.got - part.asked) < 0.06 for part in found.parts)
    tokens = sum(item.tokens for item in every)
    limit = plan.config.max_tokens
    padding = 1 - tokens / (limit * 2 * found.steps) if limit and len(steps[0].packs) == 2 else None
    figures = found.figures()
    assert figures["tokens"] == tokens
    assert padding is None or figures["padding"] == pytest.approx(padding)
    loads = [[sum(p.cost for p in hand) for hand in deal(step.packs, 2)] for step in steps]
    spread = np.mean([max(load) / np.mean(load) - 1 for load in loads[:256]])
    assert figures["spread"] == pytest.approx(spread)


def test_large_sources_are_planned_in_part_and_say_so(monkeypatch):
    exact = survey(make())
    monkeypatch.setattr("data_shards.plan.epoch.MOST_DRAWN", 500)
    part = survey(make())
    assert part.steps < exact.steps / 2
    for of, whole in zip(part.parts, exact.parts, strict=True):
        assert not of.exact
        assert of.epoch == pytest.approx(whole.epoch, rel=0.35)


def test_a_source_that_ends_unfinished_is_never_whole():
    found = survey(make(mixture={"text": {0: 1}, "pictures": {0: 1, 2: 0}}))
    ends = {part.name: part.epoch for part in found.parts}
    assert ends["pictures"] is None and ends["text"] == found.steps
    assert found.whole is None


def test_ranks_that_do_not_divide_the_packs_are_refused():
    with pytest.raises(EntryError, match="4 packs of a step cannot be assigned equally to 3"):
        survey(make(packs_per_step=4), ranks=3)


@pytest.mark.parametrize(("given", "patterns", "weights"), [
    (["a/b/train-*.tar"], {"b": ["a/b/train-*.tar"]}, {"b": 1}),
    (["/x/c:0.25", "n=/x/d:3"], {"c": ["/x/c"], "n": ["/x/d"]}, {"c": 0.25, "n": 3}),
    (["n=a/*.tar:2", "n=b/*.tar:2"], {"n": ["a/*.tar", "b/*.tar"]}, {"n": 2}),
    (["https://host:80/s/train-{0..3}.tar?v=1:2"],
     {"s": ["https://host:80/s/train-{0..3}.tar?v=1"]}, {"s": 2}),
])  # fmt: skip
def test_sources_are_given_by_name_pattern_and_weight(given, patterns, weights):
    assert parse_shards(given) == (patterns, weights)


@pytest.mark.parametrize("given", [["a/s/*.tar", "b/s/*.tar"], ["n=a:1", "n=b:2"]])
def test_sources_that_share_a_name_by_accident_are_refused(given):
    with pytest.raises(ValueError, match=r"there is a source 's'|another weight"):
        parse_shards(given)


@pytest.fixture(scope="module")
def talks(tmp_path_factory, make_picture):
    root = tmp_path_factory.mktemp("talks")
    text = [Sample([user(f"{n}?"), assistant("word " * (1 + n))], {}, META | {}) for n in range(30)]
    shown = [Sample([user(image("img0.png")), assistant("x")], {"img0.png": make_picture(n)},
                    META | {}) for n in range(4)]  # fmt: skip
    write_shards(text, root / "text")
    write_shards([*text[:9], *shown], root / "some")
    write_shards(shown, root / "shown")
    return root


def plan(*words):
    return CliRunner().invoke(app, ["plan", "--processor", "tiny:llama", *map(str, words)])


def test_the_command_plans_shards_and_names_what_is_left_out(talks):
    words = ("--shards", talks / "text", "--shards", f"s={talks}/some/train-*.tar:0.5",
             "--max-tokens", 256, "--max-length", 120)  # fmt: skip
    done = plan(*words, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["sources"]["text"]["asked"] == pytest.approx(2 / 3, abs=1e-5)
    fates = found["sources"]["s"]["fates"]["cannot be encoded"]
    assert fates["samples"] == 4
    assert fates["first"].startswith("train-000000.tar:00000009: there is image, but")
    assert found["sources"]["text"]["fates"]["skipped"]["samples"] > 0
    assert 0 <= found["padding"] < 0.2
    shown = plan(*words)
    assert f"an epoch, every sample at least once: {found['epoch_steps']} steps" in shown.output
    assert "text: skipped: " in shown.output and "max_length is 120" in shown.output
    none = plan("--shards", talks / "shown", "--max-tokens", 256)
    assert none.exit_code == 1
    assert "none of its 4 samples can be encoded" in none.output
    assert "give either a RECIPE" in plan().output


def test_a_recipe_is_planned_by_either_command(shards, tmp_path):
    from stages.cli import app as train

    words = ["plan", "tiny", *shards, f"output={tmp_path}/run", "--ranks", "2"]
    both = [CliRunner().invoke(command, [*words, "--json"]) for command in (train, app)]
    assert [done.exit_code for done in both] == [0, 0], both[0].output + both[1].output
    figures = [json.loads(done.stdout) for done in both]
    assert figures[0] == figures[1]
    assert list(figures[0]) == ["vision_align", "audio_align", "omni", "sft"]
    assert figures[0]["omni"]["packs_per_step"] == 4  # accumulate: 2
    assert {name: round(of["asked"], 3) for name, of in figures[0]["omni"]["sources"].items()} == {
        "captions": 0.4, "spoken": 0.35, "words": 0.15, "text": 0.1,
    }  # fmt: skip
    assert not (tmp_path / "run").exists()
    told = CliRunner().invoke(app, [*words, "--stage", "omni"]).output
    assert "omni: 8 steps" in told and "sft: 8 steps" not in told
    wrong = CliRunner().invoke(app, [*words, "--stage", "stf"])
    assert wrong.exit_code == 2
