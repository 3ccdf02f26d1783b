"""The first hour: a recipe for data that are there, its keys, and a page that follows a run."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from stages.cli import app
from stages.recipe.read import load_recipe
from stages.recipe.reference import reference
from stages.report.watch import watch

TINY = {
    "vision": "{kind: timm, architecture: test_vit, image_size: 48, model_args: {img_size: 48}}",
    "audio": "{kind: whisper, model_config: {d_model: 32, encoder_layers: 1, "
             "encoder_attention_heads: 2, encoder_ffn_dim: 64, num_mel_bins: 80, "
             "max_source_positions: 1500}}",
}  # fmt: skip
"""in place of the pretrained encoders, which are fetched"""


def call(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folders(shards) -> dict[str, Path]:
    """Return source name -> folder of its shards."""
    pairs = (override.removeprefix("sources.").split("=[") for override in shards)
    return {name: Path(path.rstrip("]")).parent for name, path in pairs}


def test_a_recipe_that_builds_trains_as_printed(folders, tmp_path):
    result = call("init", folders["captions"], folders["words"], folders["text"],
                  "--from", "tiny:llama", "--output", tmp_path / "run")  # fmt: skip
    assert result.exit_code == 0, result.output
    path = tmp_path / "mine.yaml"
    path.write_text(result.stdout)
    recipe = load_recipe(path)
    assert [stage.name for stage in recipe.stages] == ["vision_align", "audio_align", "sft"]
    assert recipe.stages[0].data.mixture == {"captions": 1}
    assert recipe.stages[1].data.mixture == {"words": 1}
    tiny = [f"stages.{name}_align.attach.{name}.encoder={spec}" for name, spec in TINY.items()]
    steps = [f"stages.{stage.name}.steps=1" for stage in recipe.stages]
    trained = call(path, *tiny, *steps, "probes.samples=0", "trackers=[]")
    assert trained.exit_code == 0, trained.output
    assert (tmp_path / "run" / "sft" / "model.safetensors").is_file()


def test_text_alone_needs_no_encoder(folders, tmp_path):
    (tmp_path / "mine.yaml").write_text(call("init", folders["text"]).stdout)
    [stage] = load_recipe(tmp_path / "mine.yaml").stages
    assert [*stage.trainable] == ["language_model"] and not stage.attach


def test_a_recipe_that_tunes_trains_as_printed(folders, tiny_checkpoint, tmp_path):
    result = call("init", folders["images"], "--from", tiny_checkpoint, "--output", tmp_path / "r")
    path = tmp_path / "mine.yaml"
    path.write_text(result.stdout)
    [stage] = load_recipe(path).stages
    assert stage.lora and not stage.attach
    trained = call(path, "stages.tune.steps=1", "probes.samples=0", "trackers=[]")
    assert trained.exit_code == 0, trained.output
    asked = call("init", folders["images"], "--from", tiny_checkpoint, "--shape", "evaluate")
    assert f"omni-eval {tiny_checkpoint} --heldout {folders['images']}" in asked.stdout


@pytest.mark.parametrize(("arguments", "wanted"), [
    (["{raw}"], "omni-shards build imagefolder --data {raw}"),
    (["{text}", "{text}"], "two folders are called the same: text, text"),
    (["{text}", "--shape", "tune"], "no shape 'tune'; there are build, lora, evaluate"),
    (["{text}", "--shape", "lora", "--from", "tiny:llama"], "pass its checkpoint with --from"),
])  # fmt: skip
def test_what_cannot_be_is_refused_with_what_to_do(arguments, wanted, folders, tmp_path):
    (tmp_path / "cat.jpg").touch()
    names = {"raw": tmp_path, "text": folders["text"]}
    result = call("init", *(argument.format(**names) for argument in arguments))
    assert result.exit_code == 2
    assert wanted.format(**names) in result.stderr


def test_the_page_of_keys_is_what_the_code_says():
    page = Path(__file__).parent.parent / "docs" / "recipe.md"
    assert page.read_text(encoding="utf-8") == reference()
    assert "| `steps` | int | required | optimizer updates |" in reference()


def test_a_run_is_watched_until_it_is_finished(folders, tmp_path):
    run, path = tmp_path / "run", tmp_path / "mine.yaml"
    path.write_text(call("init", folders["text"], "--from", "tiny:llama", "--output", run).stdout)
    trained = call(path, "stages.sft.steps=2", "probes.samples=0", "trackers=[]")
    assert trained.exit_code == 0, trained.output
    facts = run / "sft" / "stage.json"
    hidden = facts.rename(run / "hidden")
    lines, slept = [], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        assert f'http-equiv="refresh" content="{seconds}"' in (run / "report.html").read_text()
        if len(slept) == 2:
            hidden.rename(facts)

    watch(run, run / "eval", 7, lines.append, sleep)
    assert slept == [7, 7] and len(lines) == 2  # what did not change is not printed again
    assert lines[1].endswith("sft: finished")
    assert "refresh" not in (run / "report.html").read_text()
