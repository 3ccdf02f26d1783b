"""Features in files: training is the same to the bit, and no stage encodes what one before did."""

from dataclasses import replace
from pathlib import Path

import pytest
from accelerate import Accelerator

from omni.features.store import RECORD
from stages.recipe.read import load_recipe
from stages.training.chain import run_recipe


@pytest.fixture
def train(shards, tmp_path):
    """Return a function: (name of the run, where features are kept) -> the last weights."""

    def run(name: str, kept: str) -> bytes:
        recipe = load_recipe("tiny", [
            *shards, f"output={tmp_path / name}", f"feature_cache={kept}",
            "stages.vision_align.steps=2",
        ])  # fmt: skip
        first = recipe.stages[0]
        recipe.stages = [first, replace(first, name="again", attach={}, steps=3)]
        run_recipe(recipe, Accelerator(cpu=True))
        return (tmp_path / name / "again" / "model.safetensors").read_bytes()

    return run


@pytest.mark.slow
def test_features_in_files_change_nothing_and_are_found_again(train, tmp_path: Path, caplog):
    expected = train("memory", "memory")
    assert train("files", str(tmp_path / "features")) == expected
    [folder] = (tmp_path / "features").iterdir()  # one encoder has one key in all stages
    rows = b"".join(path.read_bytes() for path in folder.glob("*.index"))
    found = {rows[at : at + 16] for at in range(0, len(rows), RECORD.size)}
    assert len(found) * RECORD.size == len(rows) > 0  # nothing was encoded twice
    assert "features" not in caplog.text
