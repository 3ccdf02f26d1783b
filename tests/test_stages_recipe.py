"""A recipe's mistakes are named with file, line and what to write instead."""

from contextlib import suppress
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from omni.entry import EntryError
from stages.cli import app
from stages.objectives import (
    OBJECTIVES,
    ON_ROLLOUTS,
    kind_of,
    make_objective,
    objective_class,
)
from stages.recipe.places import Places
from stages.recipe.read import load_recipe
from stages.recipe.schema import RecipeError, plan_config, stage_settings
from stages.training.prepare import load_parent

GOOD = """\
output: runs/x
text: tiny:llama
sources: {a: [a/*.tar]}
stages:
  - name: one
    trainable: {projectors: 1.0e-3}
    data: {mixture: {a: 1}}
    steps: 3
  - name: two
    trainable: {language_model: 1.0e-4}
    data:
      mixture: {a: 0.5}
      batch_size: 2
    steps: 4
"""


@pytest.fixture
def recipe(tmp_path):
    def load(old: str = "", new: str = "", *overrides: str):
        assert old in GOOD
        path = tmp_path / "r.yaml"
        path.write_text(GOOD.replace(old, new, 1) if old else GOOD)
        return load_recipe(path, list(overrides))

    return load


def test_a_good_recipe_is_typed(recipe):
    loaded = recipe()
    assert [s.steps for s in loaded.stages] == [3, 4]
    assert loaded.stages[1].data.batch_size == 2
    assert loaded.stages[0].trainable == {"projectors": 0.001}


def test_a_pattern_takes_a_learning_rate_or_more(recipe):
    text = "{a: 1e-4, b: null, c: {lr: 1e-5, weight_decay: 0, warmup: 0.1}}"
    stage = recipe("{projectors: 1.0e-3}", text).stages[0]
    assert stage.trainable == {
        "a": 1e-4, "b": 0.0, "c": {"lr": 1e-5, "weight_decay": 0.0, "warmup": 0.1}
    }  # fmt: skip


def test_data_settings_become_a_plan(recipe):
    loaded = recipe("mixture: {a: 0.5}", "mixture: {a: {0: 0.5, 9: 1}}",
                    "stages.two.data.accumulate=3")  # fmt: skip
    plain, two = (plan_config(loaded, stage, ranks=2) for stage in loaded.stages)
    assert (plain.max_samples, plain.max_tokens, plain.max_length) == (8, None, 4096)
    assert (two.max_samples, two.packs_per_step) == (2, 6)
    assert two.mixture == {"a": {0: 0.5, 9: 1}}
    packed = recipe("batch_size: 2", "max_tokens: 512\n      packs_per_step: 4").stages[1]
    plan = plan_config(loaded, packed, ranks=2)
    assert (plan.max_samples, plan.max_length, plan.packs_per_step) == (None, 512, 4)


def test_stages_are_overridden_by_name(recipe):
    loaded = recipe("", "", "stages.two.steps=9", "stages.two.data.mixture.a=0.25",
                    "output=runs/y", "stages.one.trainable={language_model: 1e-5}")  # fmt: skip
    assert [s.steps for s in loaded.stages] == [3, 9]
    assert loaded.stages[1].data.mixture == {"a": 0.25}
    assert loaded.output == "runs/y"
    assert set(loaded.stages[0].trainable) == {"language_model"}


BAD = [
    ("    steps: 4", "    stpes: 4", r"r\.yaml:14: unknown key 'stages\.two\.stpes'; did you me"),
    ("batch_size", "batchsize", r"r\.yaml:13: unknown key 'stages\.two\.data\.batchsize'; did you"),
    ("output", "outptu", r"r\.yaml:1: unknown key 'outptu'; did you mean 'output'\?"),
    ("output", "zzz", r"r\.yaml:1: unknown key 'zzz'; known: output, text"),
    ("steps: 4", "steps: soon", "stage 'two': steps: Value 'soon'"),
    ("steps: 4", "steps: 0", r"r\.yaml:14: stage 'two': steps is 0; it is between 1"),
    ("batch_size: 2", "batch_size: 0", "stage 'two': batch_size must be at least 1, not 0"),
    ("batch_size: 2", "overlong: drop", "stage 'two': overlong: 'drop'; use skip, truncate or"),
    ("mixture: {a: 0.5}", "mixture: {a: {5: 1}}", "stage 'two': .* no weight above 0 at step 0"),
    ("mixture: {a: 0.5}", "mixture: {a: much}", "stage 'two': source 'a': 0: much is no from_step"),
    ("    steps: 4\n", "", "stage 'two': the key 'steps' is required"),
    ("output: runs/x\n", "", "the key 'output' is required"),
    ("text: tiny:llama\n", "", "the key 'text' is required"),
    ("mixture: {a: 1}", "mixture: {b: 1}", r"r\.yaml:7: stage 'one': mixture .*'b', .*known: a"),
    ("    data: {mixture: {a: 1}}\n", "", "stage 'one': needs data.mixture and trainable"),
    ("name: two", "name: one", "distinct names"),
    ("steps: 3", "steps: 3\n    objective: sfft", r"l:9: .*'sfft'; did you mean 'sft'"),
    ("steps: 3", "steps: 3\n    objective: {kind: aling}", r"l:9: .*'aling'; did you mean 'align'"),
    ("steps: 3", "steps: 3\n    objective: {norm_weight: 1}", r"l:9: .*unknown objective None"),
    ("steps: 3", "steps: 3\n    objective: {kind: align, norm: 1}",
     r"l:9: .*align takes no 'norm'; did you mean 'norm_weight'"),
    ("steps: 3", "steps: 3\n    objective: {kind: align, scale: big}", r"l:9: .*scale is a number"),
    ("steps: 3", "steps: 3\n    objective: {kind: sft, beta: 1}", r"l:9: .*sft takes no 'beta'"),
    ("steps: 3", "steps: 3\n    objective: [sft]", r"l:9: .*unknown objective \['sft'\]"),
    ("output: runs/x", "output: [", "r.yaml: not YAML"),
    ("output: runs/x", "output: runs/x\nprecision: fp8", "precision is auto, fp32 or bf16"),
    ("output: runs/x", "output: runs/x\nprobes: {limit: 0}", r"l:2: probes\.limit is at least 1"),
    ("output: runs/x", "output: runs/x\nprobes: {sample: 1}", r":2: .*'probes\.sample'; did you"),
    ("    data: {mixture: {a: 1}}", "    data: 3", "data must be a mapping"),
    ("projectors: 1.0e-3", "projectors: {lrr: 1}", "'one': pattern 'projectors': .* mean 'lr'"),
    ("projectors: 1.0e-3", "projectors: {decay: 1, lr: 1}", "did you mean 'weight_decay'"),
    ("projectors: 1.0e-3", "projectors: {warmup: 0.1}", "'projectors': needs lr"),
    ("projectors: 1.0e-3", "projectors: fast", "'projectors': lr is a number, not 'fast'"),
    ("projectors: 1.0e-3", "projectors: -1", "lr is -1; it is between 0 and inf"),
    ("projectors: 1.0e-3", "projectors: {lr: 1, warmup: 2}", "warmup is 2; it is between 0 and 1"),
    ("    steps: 3", "    steps: 3\n    lora: {x: {rank: 1}}", "unknown key 'rank'; did you mean"),
    ("    steps: 3", "    steps: 3\n    lora: {x: {r: 1.5}}", "r is 1.5; it is between 1 and"),
    ("    steps: 3", "    steps: 3\n    lora: {x: 16}", "lora 'x': write {r: 16, lr: 1.0e-4}, not"),
    ("[a/*.tar]", "[]", r"r\.yaml:3: source 'a' names no shards"),
    ("name: two", "name: a/b", r"r\.yaml:9: stage 'a/b': a stage is a folder of the run"),
    ("name: two", "name: resume", r"r\.yaml:9: stage 'resume': .* none of eval, probes, ref"),
    ("{language_model: 1.0e-4}", "[language_model]", r"l:10: .*two\.trainable must be a mapping"),
    ("mixture: {a: 0.5}", "mixture: [a]", r"l:12: stages\.two\.data\.mixture must be a mapping"),
    ("batch_size: 2", "packs_per_step: 0", r"l:13: .* packs_per_step must be at least 1, not 0"),
    ("batch_size: 2", "max_length: 0", r"l:13: .* max_length must be at least 1, not 0"),
    ("projectors: 1.0e-3", "projectors: .inf", "lr is inf; it is between 0 and inf"),
    ("output: runs/x", "output: runs/x\nmax_offenders: -1", ":2: max_offenders is at least 0"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "reason"), BAD)
def test_a_mistake_is_named(recipe, old, new, reason):
    with pytest.raises(RecipeError, match=reason):
        recipe(old, new)


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("stages.three.steps=1", "no stage 'three'; stages: one, two"),
        (
            "stages.two.stepz=1",
            r"override 'stages\.two\.stepz=1': unknown key 'stages\.two\.stepz'; did you",
        ),
        ("seed", "write key=value"),
        ("seed.x=1", "seed|has no keys"),
    ],
)
def test_a_mistaken_override_is_named(recipe, override, reason):
    with pytest.raises(RecipeError, match=reason):
        recipe("", "", override)


def test_an_entry_is_found_where_it_is_written(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        "base: &base\n  steps: 3\n  data: {mixture: {a: 1}}\nstages:\n"
        "  - name: one\n    <<: *base\n  - <<: *base\n    steps: 4\n    name: two\n"
    )
    found = Places(path, path.read_text(), ["stages.one.data.mixture={b: 1}", "seed=1"])
    assert found.of("stages", "one", "steps") == f"{path}:2"  # by reference
    assert found.of("stages", "two", "steps") == f"{path}:8"
    assert found.of("stages", "two", "data", "max_length") == f"{path}:3"  # not there: above it
    assert found.of("stages", "three") == f"{path}:4"
    override = "override 'stages.one.data.mixture={b: 1}'"
    assert found.of("stages", "one", "data", "mixture", "b") == override
    assert found.of("stages", "one", "data") == f"{path}:3 with {override}"
    assert found.of("text") == str(path)


def test_an_unknown_recipe_lists_the_shipped(tmp_path):
    with pytest.raises(RecipeError, match=r"no shipped recipe of that name \(.*tiny"):
        load_recipe("nope")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(RecipeError, match="a recipe is a mapping"):
        load_recipe(tmp_path / "list.yaml")


SHIPPED = sorted(Path(str(resources.files("stages") / "recipes")).glob("*.yaml"))


RICH = [
    "seed=3", "output='a: b'", "trackers=[]", "probes={samples: 2, rows: [category]}",
    "stages.sft.trainable={'*': 1e-4, x: null, y: {lr: 1, warmup: 0.1}}",
    "stages.sft.lora={llm: {r: 4, lr: 1e-4}}", "stages.sft.new_tokens=['<a: b>', \"it's\", 'no']",
    "stages.sft.objective={kind: align, norm_weight: 0.5}",
    "stages.sft.data.mixture={text: {0: 0.5, 9: 1}}",
]  # fmt: skip


SHOWN = [*((path, []) for path in SHIPPED),
         *((path, RICH) for path in SHIPPED if path.stem in ("quickstart", "tiny"))]  # fmt: skip


@pytest.mark.parametrize(("path", "overrides"), SHOWN, ids=str)
def test_the_recipe_that_is_shown_is_the_one_that_runs(path, overrides, tmp_path):
    plain = load_recipe(path.stem)
    last, source = plain.stages[-1].name, next(iter(plain.sources))
    overrides = [
        text.replace("stages.sft", f"stages.{last}").replace("{text:", f"{{{source}:")
        for text in overrides
    ]
    done = CliRunner().invoke(app, ["--show", path.stem, *overrides])
    assert done.exit_code == 0, done.output
    copy = tmp_path / "copy.yaml"
    copy.write_text(done.stdout)
    assert load_recipe(copy) == load_recipe(path.stem, overrides)


def test_the_tiny_recipe_has_the_stages_of_the_quickstart():
    tiny, quick = load_recipe("tiny"), load_recipe("quickstart")
    for a, b in zip(tiny.stages, quick.stages, strict=True):
        assert (a.name, kind_of(a.objective), a.attach.keys()) == (
            b.name, kind_of(b.objective), b.attach.keys()
        )  # fmt: skip
        assert a.trainable.keys() | a.lora == b.trainable.keys() | b.lora
        assert a.data.mixture.keys() <= b.data.mixture.keys()


def another(kind, field):
    """Return a value of an option that is not its default."""
    if choices := get_args(field.type):
        return choices[-1]
    if field.type is bool:
        return not field.default
    with suppress(EntryError):
        value = field.default / 2 or 0.25
        make_objective({"kind": kind, field.name: value})
        return value
    return 3.0


def of_rollouts(kind):
    """Return the overrides that give a stage what its objective learns from."""
    if kind not in ON_ROLLOUTS:
        return ()
    return "stages.two.data={}", "stages.two.rollout={environment: generalpoints}"


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_options_of_an_objective_are_those_of_its_dataclass(kind, recipe):
    options = {f.name: f.default for f in fields(objective_class(kind).options_class)}
    assert make_objective({"kind": kind, **options}).options == make_objective(kind).options
    for field in fields(objective_class(kind).options_class):
        value = another(kind, field)
        changed = recipe("", "", f"stages.two.objective={{kind: {kind}, {field.name}: {value}}}",
                         *of_rollouts(kind))  # fmt: skip
        assert getattr(make_objective(changed.stages[1].objective).options, field.name) == value
        settings = [stage_settings(r, r.stages[1]) for r in (recipe(), changed)]
        assert settings[0] != settings[1]


def test_settings_change_with_what_decides_the_result(recipe):
    first, second = recipe(), recipe("", "", "seed=1", "threads=9", "save_seconds=1")
    a, b = (stage_settings(r, r.stages[0]) for r in (first, second))
    assert {k for k in a if a[k] != b[k]} == {"seed"}


def test_a_folder_of_features_needs_a_limit(tmp_path):
    with pytest.raises(
        RecipeError, match="feature_cache names a folder; say with feature_cache_mb"
    ):
        load_recipe("tiny", [f"feature_cache={tmp_path}", "feature_cache_mb=0"])


def test_how_videos_are_shown_is_a_setting_of_all_stages():
    asked = {"fps": 2, "max_tokens": 512, "sound": False}
    recipe = load_recipe("tiny", ["video={fps: 2, max_tokens: 512, sound: false}"])
    _, processor = load_parent(recipe, None, sketch=True)
    assert processor.video == {"fps": 2, "max_frames": 16, "max_tokens": 512, "sound": False}
    stage = recipe.stages[0]
    assert stage_settings(recipe, stage)["video"] == asked
    assert "video" not in stage_settings(load_recipe("tiny"), stage)  # as stages were before
    for wrong, reason in (("{frames: 2}", "a video takes .*, not 'frames'"),
                          ("{max_tokens: 0.5}", "max_tokens must be a whole number")):  # fmt: skip
        with pytest.raises(RecipeError, match=f"video.*: {reason}"):
            load_recipe("tiny", [f"video={wrong}"])


def test_a_sequence_is_not_split_over_ranks():
    with pytest.raises(RecipeError, match=r"sharding is none or full; a sequence cannot be split"):
        load_recipe("tiny", ["sharding=context"])
