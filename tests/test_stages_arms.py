"""Stages that start from the same one: each alone, none touched by what another one does."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stages.cli import app
from stages.recipe.read import load_recipe
from stages.recipe.schema import RecipeError, ancestors
from stages.training.chain import building_on

EYE = """\
    attach:
      vision:
        encoder: {kind: timm, architecture: test_vit, image_size: 160}
        projector: {kind: patch_concat_mlp}
"""
RECIPE = f"""\
output: ROOT/run
text: tiny:llama
precision: fp32
trackers: []
sources:
  captions: [SHARDS/captions/train-*.tar]
  text: [SHARDS/text/train-*.tar]
  said: {{sample: {{from: sees, prompts: ["SHARDS/captions"], max_new_tokens: 2}}}}
stages:
  - name: base
    trainable: {{language_model: 1.0e-3}}
    data: {{mixture: {{text: 1}}, batch_size: 2}}
    steps: 1
  - name: sees
{EYE}    trainable: {{projectors.vision: 1.0e-3}}
    data: {{mixture: {{captions: 1}}, batch_size: 2}}
    steps: 1
  - name: too
    after: base
{EYE}    trainable: {{projectors.vision: 1.0e-2}}
    data: {{mixture: {{captions: 1}}, batch_size: 2}}
    steps: 1
  - name: reads
    after: base
    trainable: {{language_model: 1.0e-3}}
    data: {{mixture: {{text: 1}}, batch_size: 2}}
    steps: 1
  - name: further
    trainable: {{language_model: 1.0e-3}}
    data: {{mixture: {{text: 1}}, batch_size: 2}}
    steps: 1
"""


@pytest.fixture
def recipe(shards, tmp_path) -> Path:
    sources = Path(shards[0].partition("=[")[2]).parent.parent
    path = tmp_path / "arms.yaml"
    path.write_text(RECIPE.replace("ROOT", str(tmp_path)).replace("SHARDS", str(sources)))
    return path


def run(recipe: Path, *arguments: str) -> dict[str, Path]:
    """Train; return the record of each stage, by its name."""
    result = CliRunner().invoke(app, [str(recipe), *arguments])
    assert result.exit_code == 0, result.output
    found = (recipe.parent / "run").glob("*/stage.json")
    return {path.parent.name: path for path in found}


def test_arms_start_from_the_stage_that_they_name(recipe):
    records = run(recipe)
    parents = {name: json.loads(path.read_text())["settings"]["parent"]
               for name, path in records.items()}  # fmt: skip
    assert not parents["base"]
    assert parents["sees"] == parents["too"] == parents["reads"] != parents["further"]
    eyes = {name: path.with_name("config.json").read_text().count("test_vit")
            for name, path in records.items()}  # fmt: skip
    assert eyes == {"base": 0, "sees": 1, "too": 1, "reads": 0, "further": 0}
    made = {name: path.stat().st_mtime_ns for name, path in records.items()}
    for arguments, again in (((), set()), (("--redo", "reads"), {"reads", "further"})):
        now = {name: path.stat().st_mtime_ns for name, path in run(recipe, *arguments).items()}
        assert {name for name in now if now[name] != made[name]} == again


def test_what_starts_from_a_stage_or_learns_from_its_answers_builds_on_it(recipe):
    config = load_recipe(str(recipe), ["stages.further.data.mixture={said: 1}"])
    names = [one.name for one in ancestors(config, config.stages[-1])]
    assert names == ["base", "reads"]
    assert building_on(config, "too") == ["too"]
    assert building_on(config, "sees") == ["sees", "further"]
    assert building_on(config, "base") == ["base", "sees", "too", "reads", "further"]


@pytest.mark.parametrize("name", ["redas", "further", "base.x"])
def test_a_stage_that_is_not_above_cannot_be_started_from(recipe, name):
    recipe.write_text(
        recipe.read_text().replace("after: base\n    train", f"after: {name}\n    train")
    )
    line = recipe.read_text().splitlines().index(f"    after: {name}") + 1
    with pytest.raises(RecipeError, match=f"{recipe}:{line}: stage 'reads': .*{name!r}"):
        load_recipe(str(recipe), [])
