"""What a late stage would fail on is named before the first one is trained, with file and line."""

import copy
import re
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import BloomConfig, GPT2Config, LlamaConfig
from typer.testing import CliRunner

from data_shards.shards.sample import Sample
from data_shards.shards.write import write_shards
from data_shards.sources.base import Build
from data_shards.sources.demo.toy import Toy
from omni.model.positions import positions_of
from omni.processing.messages import assistant, audio, user
from omni.weights.tiny import write_tiny_llm
from omni.weights.wheels import WHEELS
from stages.cli import app
from stages.recipe.read import load_recipe, read_places
from stages.trainable.lora import adapt
from stages.trainable.patterns import param_groups
from stages.training import chain, trainer
from stages.training.preflight import find_mistakes
from stages.training.prepare import extend, load_parent
from stages.training.trainer import Trainer

META = {"source": "x", "license": "x", "schema": 1}
CONFIG = (
    "model_config: {d_model: 32, encoder_layers: 1, encoder_attention_heads: 2, "
    "encoder_ffn_dim: 64, num_mel_bins: 80, max_source_positions: 1500}\n"
)
WHISPER = f"kind: whisper\n          {CONFIG}"
TIMM = "{kind: timm, architecture: test_vitt}\n        projector: {kind: patch_concat_mlp}"
SIGLIP = (
    "{kind: transformers, model_config: {model_type: sglip}}\n"
    "        projector: {kind: patch_concat_mlp}\n"
)
PROJECTOR = "        projector: {kind: frame_concat_mlp, concat: 4}\n"
TRAINABLE = (
    "trainable:\n      projectors: 1.0e-3\n      new_tokens: 1.0e-3\n    lora:\n"
    "      language_model.model.layers: {r: 2, lr: 1.0e-3}\n"
)
RECIPE = f"""\
output: ROOT/run
text: tiny:llama
precision: fp32
sources:
  captions: [SHARDS/captions/train-*.tar]
  spoken: [SHARDS/spoken/train-*.tar]
  text: [SHARDS/text/train-*.tar]
stages:
  - name: eye
    attach:
      vision:
        encoder: {{kind: timm, architecture: test_vit, image_size: 160}}
        projector: {{kind: patch_concat_mlp}}
    trainable: {{projectors.vision: 1.0e-3}}
    objective: align
    data: {{mixture: {{captions: 1}}, batch_size: 2}}
    steps: 2
  - name: late
    attach:
      audio:
        encoder:
          {WHISPER}{PROJECTOR}    new_tokens: [<think>]
    {TRAINABLE}    objective: sft
    data:
      mixture:
        captions: 0.5
        spoken: 0.5
      batch_size: 2
      max_length: 4000
      packs_per_step: 1
    steps: 2
"""
# what of the last stage, what is written instead, what the named line holds, words of the error
MISTAKES = {
    "pattern": ("projectors: 1", "projectors.visoin: 1", "visoin", "near: projectors.vision,"),
    "deep pattern": ("projectors: 1", "language_model.model.layers.0.mpl.up_proj: 1", "mpl",
                     "near: language_model.model.layers.*.mlp.up_proj,"),
    "encoder's pattern": ("projectors: 1", "encoders.vison: 1", "vison", "near: encoders.vision,"),
    "lora's pattern": ("model.layers:", "model.layer:", "model.layer:",
                       "near: language_model.model.layers,"),
    "lora of no linear layer": ("model.layers:", "model.embed_tokens:", "model.embed_tokens:",
                                "matches no linear layer"),
    "lora without lr": (", lr: 1.0e-3", "", "r: 2", "give it lr"),
    "rows of no new tokens": ("[<think>]", "[]", "  new_tokens: 1", "'new_tokens' matches no para"),
    "no token": ("[<think>]", "[<think>, '']", "new_tokens: [", "'' cannot be a token"),
    "nothing trains": (TRAINABLE, "trainable: {projectors: 0}\n", "trainable", "nothing trains"),
    "objective": ("objective: sft", "objective: sfft", "sfft", "did you mean 'sft'"),
    "align, no projector": (f"{TRAINABLE}    objective: sft", "trainable: {language_model: 1}\n"
                            "    objective: align", "trainable", "or use objective sft"),
    "name of before": ("audio:\n", "vision:\n", "vision:", "'vision' is attached already"),
    "name": ("audio:\n", "my.ear:\n", "my.ear", "cannot be called 'my.ear'"),
    "no projector": (PROJECTOR, "", "audio:", "needs projector"),
    "modality's key": ("projector: {", "projecter: {", "projecter", "did you mean 'projector'"),
    "encoder's kind": ("kind: whisper", "kind: wisper", "wisper", "did you mean 'whisper'"),
    "encoder's key": ("model_config:", "model_confg:", "confg", "did you mean 'model_config'"),
    "encoder's config": ("d_model: 32", "d_modl: 32", "d_modl", "did you mean 'd_model'"),
    "encoder's value": ("d_model: 32", "d_model: many", "encoder:", "expected int, got str"),
    "encoder's list": ("kind: whisper", "kind: [whisper]", "[whisper]", "unknown encoder"),
    "projector's kind": ("frame_concat_mlp", "frame_mlp", "frame_mlp", "mean 'frame_concat_mlp'"),
    "image projector": ("frame_concat_mlp", "patch_concat_mlp", "patch", "use frame_concat_mlp"),
    "projector's key": ("concat: 4", "concta: 4", "concta", "did you mean 'concat'"),
    "projector's value": ("concat: 4", "concat: 0", "concat: 0", "at least 1, not 0"),
    "model type": (f"{WHISPER}{PROJECTOR}", SIGLIP, "sglip", "mean 'siglip'"),
    "no such folder": (CONFIG, "weights: /nowhere\n", "weights", "part '/nowhere': no folder"),
    "no such wheel": (CONFIG, "weights: wheel:whisper-tiny\n", "weights", "mean 'whisper-tiny.en'"),
    "no such scheme": (CONFIG, "weights: wheels:whisper\n", "weights", "Use wheel:NAME"),
    "architecture": (f"{WHISPER}{PROJECTOR}", f"{TIMM}\n", "test_vitt", "did you mean 'test_vit"),
    "source": ("spoken: 0.5", "spokn: 0.5", "spokn", "did you mean 'spoken'"),
    "length": ("max_length: 4000", "max_length: 9", "max_length", "every one of its 8 samples is"),
    "positions": ("max_length: 4000", "max_length: 5000", "max_length", "has positions for 4,096"),
    "length and pack": ("max_length: 4000", "max_length: 50\n      max_tokens: 40", "max_length",
                        "does not fit into a pack of 40 tokens"),
    "steps": ("steps: 2", "steps: 0", "steps: 0", "steps is 0"),
    "overlong": ("max_length: 4000", "overlong: drop", "overlong", "skip, truncate or split"),
    "weight": ("spoken: 0.5", "spoken: many", "spoken", "many is no from_step"),
}  # fmt: skip


@pytest.fixture
def write(shards, tmp_path):
    """Return a function: what of the last stage, and what is written instead -> a recipe's path."""
    sources = Path(shards[0].partition("=[")[2]).parent.parent
    good = RECIPE.replace("ROOT", str(tmp_path)).replace("SHARDS", str(sources))

    def make(old: str = "", new: str = "") -> Path:
        before, late, after = good.partition("  - name: late\n")
        assert old in after
        path = tmp_path / "my.yaml"
        path.write_text(before + late + after.replace(old, new, 1))
        return path

    return make


@pytest.fixture
def refused(monkeypatch, tmp_path):
    """Return a function that runs a recipe, which must be refused before anything is trained."""

    def trained(*arguments):
        raise AssertionError("a stage was trained")

    monkeypatch.setattr(Trainer, "update", trained)
    monkeypatch.setattr(trainer, "make_model", trained)

    def run(path: Path, *overrides: str) -> str:
        result = CliRunner().invoke(app, [str(path), *overrides])
        assert result.exit_code == 2, result.output
        assert not (tmp_path / "run").exists()
        return " ".join(result.stderr.split())

    return run


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_of_the_last_stage_is_named_before_the_first(write, refused, kind):
    old, new, held, words = MISTAKES[kind]
    path = write(old, new)
    lines = path.read_text().splitlines()
    late = lines.index("  - name: late")
    number = next(n for n, line in enumerate(lines, 1) if n > late and held in line)
    error = refused(path)
    assert error.startswith(f"error: {path}:{number}: stage 'late': ")
    assert words in error


def look(path: Path, *overrides: str, **more) -> list[str]:
    recipe, places = load_recipe(path, [*overrides]), read_places(path, [*overrides])
    return [str(m) for m in find_mistakes(recipe, places, recipe.stages, **more)]


def test_a_good_recipe_passes_and_trains(write):
    path = write()
    assert look(path) == []
    done = CliRunner().invoke(app, [str(path)])
    assert done.exit_code == 0, done.output


def test_media_without_an_encoder_are_found_wherever_they_are(write, refused, tmp_path, make_sound):
    talks = [[user(f"{n}?"), assistant("yes")] for n in range(19)]
    talks.append([user(audio("aud0.wav")), assistant("yes")])
    write_shards([Sample(t, {"aud0.wav": make_sound(0.3)} if n == 19 else {}, dict(META))
                  for n, t in enumerate(talks)], tmp_path / "mixed")  # fmt: skip
    path = write(f"    attach:\n      audio:\n        encoder:\n          {WHISPER}{PROJECTOR}", "")
    error = refused(path, f"sources.spoken=[{tmp_path}/mixed/train-*.tar]")
    assert f"my.yaml:{line_of(path, 'spoken: 0.5')}: stage 'late': source 'spoken'" in error
    assert ":00000019: there is audio, but the model has no encoder for it (has: vision)" in error


def line_of(path: Path, held: str) -> int:
    lines = path.read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if held in line)


def test_a_source_without_shards_is_named_where_it_is_written(write, refused):
    path = write()
    path.write_text(path.read_text().replace("spoken/train", "spokn/train"))
    error = refused(path)
    assert error.startswith(f"error: {path}:6: stage 'late': no shard matches '/")


def test_a_source_of_which_nothing_can_be_used_is_named(write, refused, tmp_path):
    silent = [Sample([user(f"{n}?")], {}, dict(META)) for n in range(9)]
    write_shards(silent, tmp_path / "silent")
    path = write()
    error = refused(path, f"sources.spoken=[{tmp_path}/silent/train-*.tar]")
    assert f"my.yaml:{line_of(path, 'spoken: 0.5')}: stage 'late': source 'spoken': " in error
    assert "none of its first 8 samples can be used; the first: " in error
    assert "no assistant turn" in error


def test_preferences_are_no_conversations(write, refused, tmp_path):
    pairs = [
        Sample([user("Q"), assistant("A"), user(f"{n}?")], {}, dict(META),
               chosen=[assistant("yes")], rejected=[assistant("no")])
        for n in range(9)
    ]  # fmt: skip
    write_shards(pairs, tmp_path / "pairs")
    path = write()
    error = refused(path, f"sources.spoken=[{tmp_path}/pairs/train-*.tar]")
    assert f"my.yaml:{line_of(path, 'spoken: 0.5')}: stage 'late': source 'spoken': " in error
    assert "it is a preference" in error and "an objective on pairs, or build" in error


def test_a_long_first_sample_does_not_speak_for_its_source(write, tmp_path):
    talks = [[user("x" * (5000 if n < 12 else 5)), assistant("yes")] for n in range(13)]
    write_shards([Sample(t, {}, dict(META)) for t in talks], tmp_path / "long")
    given = f"sources.spoken=[{tmp_path}/long/train-*.tar]"
    assert look(write(), given) == []
    cut = "stages.late.data.max_length=20"
    [one] = [m for m in look(write(), given, cut) if "'spoken'" in m]
    assert one.startswith(f"override '{cut}': stage 'late': source 'spoken': every one of its 13")
    assert look(write(), given, cut, "stages.late.data.overlong=truncate") == []


def test_an_override_is_named_in_place_of_the_line(write, refused):
    given = "stages.late.trainable={projectors.visoin: 1}"
    error = refused(write(), given)
    assert error.startswith(f"error: override '{given}': stage 'late': trainable pattern")


def test_every_mistake_is_named_at_once(write, refused):
    path = write("projectors: 1.0e-3", "projector: 1.0e-3")
    path.write_text(path.read_text().replace("{projectors.vision: 1", "{projectors.vison: 1"))
    error = refused(path, "sources.spoken=[/nowhere/*.tar]")
    for words in ("stage 'eye': trainable pattern 'projectors.vison'", "'late': no shard matches",
                  "stage 'late': trainable pattern 'projector' "):  # fmt: skip
        assert words in error


def test_rows_that_are_asked_after_a_stage_are_known_before(write, refused):
    given = "probes={samples: 1, rows: [spoken_wrod]}"
    error = refused(write(), given)
    assert error.startswith(f"error: override '{given}': ") and "mean 'spoken_word'" in error


def test_held_out_data_that_is_asked_after_a_stage_is_there_before(write, refused, tmp_path):
    given = f"probes={{samples: 1, rows: [], heldout: [{tmp_path / 'none'}]}}"
    error = refused(write(), given)
    assert error.startswith(f"error: override '{given}': ") and "none: no shard" in error


def test_packs_that_the_ranks_cannot_share_are_named(write):
    path = write()
    assert look(path, ranks=1) == []
    [mistake] = look(path, ranks=2)
    number = line_of(path, "packs_per_step")
    assert mistake.startswith(
        f"{path}:{number}: stage 'late': 1 packs of a step cannot be assigned"
    )


def test_only_what_is_left_to_train_is_looked_at(write, monkeypatch):
    path = write()
    assert CliRunner().invoke(app, [str(path)]).exit_code == 0
    seen = []

    def found(recipe, places, stages, *rest):
        seen.append([stage.name for stage in stages])
        return find_mistakes(recipe, places, stages, *rest)

    monkeypatch.setattr(chain, "find_mistakes", found)
    assert CliRunner().invoke(app, [str(path)]).exit_code == 0
    wrong = CliRunner().invoke(app, [str(path), "--redo", "late", "stages.late.lora={wrong: {}}"])
    assert wrong.exit_code == 2
    assert "lora pattern 'wrong' matches no linear layer" in wrong.stderr
    assert (path.parent / "run" / "late" / "stage.json").is_file()  # nothing was moved aside
    assert CliRunner().invoke(app, [str(path), "--stage", "eye"]).exit_code == 0
    again = CliRunner().invoke(app, [str(path), "--fresh", "stages.late.lora={wrong: {}}"])
    assert again.exit_code == 2 and (path.parent / "run").is_dir()
    assert seen == [[], ["late"], [], ["eye", "late"]]


def test_the_doctor_finds_the_same(write):
    path = write("projectors: 1", "projectors.visoin: 1")
    result = CliRunner().invoke(app, ["doctor", str(path)])
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 1, result.output
    last = result.stdout.splitlines()[-1]
    assert last.startswith("no-go: late: trainable pattern 'projectors.visoin' matches no param")
    assert f"({path}:{line_of(path, 'visoin')})" in last


def test_a_sketch_has_the_names_and_shapes_of_the_model(write):
    recipe = load_recipe(write())
    (model, processor), (sketch, other) = (load_parent(recipe, None, s) for s in (False, True))
    for stage in recipe.stages:
        extend(model, processor, stage)
        extend(sketch, other, stage)
        for one, its in ((model, processor), (sketch, other)):
            assert (one.device.type == "meta") == (one is sketch)
            assert its.modalities == processor.modalities
        adapted = copy.deepcopy(model), copy.deepcopy(sketch)
        groups = [
            param_groups(one, adapt(one, stage, its))
            for one, its in zip(adapted, (processor, other), strict=True)
        ]
        shapes = [[[p.shape for p in g.pop("params")] for g in gs] for gs in groups]
        assert shapes[0] == shapes[1] and groups[0] == groups[1]
        names = [{n: p.shape for n, p in one.named_parameters()} for one in adapted]
        assert names[0] == names[1]


@pytest.mark.parametrize("damage", ["none", "missing", "foreign", "file"])
def test_weights_that_are_not_the_encoders_are_refused_unread(write, refused, tmp_path, damage):
    import timm

    state = timm.create_model("test_vit", num_classes=0).state_dict()
    if damage == "missing":
        del state["blocks.0.attn.qkv.weight"]
    if damage == "foreign":
        state["blocks.9.attn.qkv.weight"] = torch.zeros(2, 2)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text('{"architecture": "test_vit"}')
    if damage != "file":
        save_file(state, tmp_path / "weights" / "model.safetensors")
    given = f"stages.late.attach={{other: {{encoder: {{kind: timm, weights: {tmp_path}/weights}}, "
    given += "projector: {kind: patch_concat_mlp}}}"
    rest = "stages.late.data.mixture={captions: 1}"
    if damage == "none":
        assert look(write(), given, rest) == []
    else:
        error = refused(write(), given, rest)
        assert error.startswith("error: override 'stages.late.attach=")
        assert f"{tmp_path}/weights" in error


def test_a_hub_is_asked_for_configs_alone(write, tmp_path, monkeypatch):
    import huggingface_hub

    folder, asked = write_tiny_llm(tmp_path / "llm"), []
    (folder / "model.safetensors").unlink()

    def download(name, allow_patterns):
        asked.append(allow_patterns)
        if name == "org/none":
            raise OSError("not found")
        return folder

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert look(write(), "text=hub:org/llm") == []
    assert asked and not any("*.safetensors" in patterns for patterns in asked)
    path = write(CONFIG, "weights: hub:org/none\n")
    [mistake] = look(path)
    assert mistake.startswith(f"{path}:{line_of(path, 'hub:')}: stage 'late': part hub:org/none")


TOYS = {"sums": ["s1", "spin", "cft"], "critique": ["cft"], "guard": ["guard"],
        "captions": ["dpo_omni"], "pairs": ["dpo_omni"]}  # fmt: skip


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """Write a few samples of each toy task; return their folder."""
    root = tmp_path_factory.mktemp("toys")
    for task in TOYS:
        write_shards(Toy(task, 12).generate(Build()), root / task)
    return root


@pytest.mark.parametrize("name", sorted({name for names in TOYS.values() for name in names}))
def test_recipes_of_toys_have_no_mistakes(toys, name):
    text = (files("stages.recipes") / f"{name}.yaml").read_text(encoding="utf-8")
    path = toys / f"{name}.yaml"
    path.write_text(text.replace("data/toy/", f"{toys}/"), encoding="utf-8")
    assert look(str(path)) == []


@pytest.mark.parametrize("name", ["tiny", "quickstart", "laptop", "speech_out"])
def test_shipped_recipes_have_no_mistakes(shards, name, monkeypatch):
    home = Path.home() / ".cache" / "omni-stages"
    if name != "tiny":
        text = (files("stages.recipes") / f"{name}.yaml").read_text(encoding="utf-8")
        known = {line.partition("=")[0]: line.partition("=")[2] for line in shards}
        like = {"easyvqa": "images", "vqa": "images", "sentences": "words", "voices": "words",
                "say": "words", "repeat": "words"}  # fmt: skip
        shards = shards + [
            f"sources.{of}={known[f'sources.{as_}']}"
            for of, as_ in like.items()
            if f" {of}: [" in text
        ]
        shards = [one for one in shards if f" {one[8:].partition('=')[0]}: [" in text]
        for part in re.findall(r"wheel:([\w.-]+)", text):
            if not [*home.glob(f"parts/{part}-{WHEELS[part].sha256[:12]}/omni_part.json")]:
                pytest.skip(f"{part} is not here")
        monkeypatch.setenv("OMNI_CACHE", str(home))
    assert look(name, *shards) == []


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        (LlamaConfig(max_position_embeddings=2048), 2048),
        (GPT2Config(n_positions=77), 77),
        (BloomConfig(), None),  # ALiBi
        (LlamaConfig(max_position_embeddings=4096, rope_parameters={
            "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0,
            "original_max_position_embeddings": 4096}), 16384),
        (LlamaConfig(max_position_embeddings=131072, rope_parameters={
            "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}), 131072),
    ],
)  # fmt: skip
def test_positions_are_read_as_they_are_stretched(config, positions):
    assert positions_of(config) == positions
