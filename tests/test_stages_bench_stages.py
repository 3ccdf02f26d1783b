"""Every arm of the comparison of stages is a recipe that can be run; it runs with `-m network`."""

import pytest
import yaml

from stages.bench import stages
from stages.recipe.read import load_recipe


@pytest.mark.parametrize("arm", stages.ARMS)
def test_an_arm_is_a_recipe_of_its_stages_and_sets(arm, tmp_path):
    made = stages._recipe(tmp_path, tmp_path / "run", stages.ARMS[arm], seed=3)
    for stage in made["stages"]:
        stage["steps"] = stages.STEPS[stage["name"]]
    path = tmp_path / "arm.yaml"
    path.write_text(yaml.safe_dump(made))
    recipe = load_recipe(str(path))
    assert tuple(stage.name for stage in recipe.stages) == stages.ARMS[arm].stages
    assert recipe.seed == 3 and stages.ARMS[arm].words in str(recipe.sources["words"])
    attached = [kind for stage in recipe.stages for kind in stage.attach]
    assert sorted(attached) == ["audio", "vision"]


def test_a_difference_has_an_interval_from_two_seeds_on():
    scores = {"a": [{"row": 50.0}, {"row": 54.0}], "b": [{"row": 40.0}, {"row": 40.0}]}
    line = stages._compared("?", "a", "b", "row", scores)
    assert line["difference"] == 12.0 and line["95 %"] == "-13.4 to 37.4"
    one = {name: found[:1] for name, found in scores.items()}
    assert stages._compared("?", "a", "b", "row", one)["95 %"] == "one seed"


@pytest.mark.network
@pytest.mark.slow
def test_the_comparisons_run(tmp_path):
    result = stages.run(tmp_path, small=True)
    assert result.ok and len(result.rows) == len(stages.COMPARISONS)
