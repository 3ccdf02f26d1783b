"""Adapters train, what they stand beside does not, and the checkpoint has no trace of them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

from data_shards.bench.data import write
from omni.load import load
from stages.cli import app
from stages.recipe.schema import StageConfig
from stages.trainable.lora import adapt, adapted, merged
from stages.trainable.patterns import (
    PatternError,
    describe,
    frozen_hashes,
    param_groups,
    set_trainable,
)

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RECIPE = """\
text: tiny:llama
output: set below
precision: fp32
threads: 0
sources: {text: [set below]}
stages:
  - name: full
    trainable: {language_model: 1.0e-3}
    data: {mixture: {text: 1}, batch_size: 2}
    steps: 2
  - name: low
    lora:
      language_model: {r: 4, alpha: 8, dropout: 0.1, lr: 1.0e-2}
      "*.layers.1.*v_proj": {r: 2, lr: 1.0e-3}
    trainable: {language_model.model.norm: 1.0e-3}
    data: {mixture: {text: 1}, batch_size: 2}
    steps: 6
"""


def with_lora(model, lora, trainable=None):
    stage = StageConfig(name="x", steps=1, lora=lora, trainable=trainable or {})
    return adapt(model, stage, processor=None)


def train(folder: Path, run: Path, *overrides: str):
    return CliRunner().invoke(app, [
        str(folder / "recipe.yaml"), f"output={run}", f"sources.text=[{folder}/text/*.tar]",
        *overrides,
    ])  # fmt: skip


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lora")
    (folder / "recipe.yaml").write_text(RECIPE)
    write(folder / "text", 16, media=[], chars=(5, 20))
    return folder


@pytest.fixture(scope="module")
def run(parts) -> Path:
    """Train a stage in full, and one with adapters from it; not to be changed."""
    result = train(parts, parts / "run")
    assert result.exit_code == 0, result.output
    assert "  language_model.*lora_[AB].* " in result.output
    return parts / "run"


def weights(run: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(run / name / "model.safetensors")


def test_only_what_has_an_adapter_or_a_pattern_moves(run):
    before, after = weights(run, "full"), weights(run, "low")
    assert before.keys() == after.keys()
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    norm = "language_model.model.norm.weight"
    assert moved == {n for n in before if n.split(".")[-2] in LINEAR} | {norm}
    for name in moved - {norm}:
        rank = torch.linalg.matrix_rank((after[name] - before[name]).double(), rtol=1e-3)
        assert rank == (2 if ".layers.1.self_attn.v_proj" in name else 4), name
    facts = json.loads((run / "low" / "stage.json").read_text())
    assert facts["frozen_ok"] is True
    assert set(facts["frozen"]) == {"language_model"}


def test_the_checkpoint_is_plain_and_the_adapter_beside_it_is_pefts(run):
    from peft import PeftModel

    model, _ = load(run / "low")
    assert not list(adapted(model))
    ids = torch.arange(5, 25)[None]
    parent = PeftModel.from_pretrained(load(run / "full")[0], str(run / "low" / "adapter")).eval()
    norm = model.language_model.model.norm.weight
    parent.base_model.model.language_model.model.norm.weight.data.copy_(norm.data)
    with torch.no_grad():
        torch.testing.assert_close(parent(input_ids=ids).logits, model(input_ids=ids).logits,
                                   atol=1e-5, rtol=1e-5)  # fmt: skip


def test_a_killed_stage_goes_on_to_the_same_bits(run, parts, tmp_path, at_update):
    def fail():
        raise FloatingPointError("the machine went away")

    with at_update(2 + 4, fail):
        assert train(parts, tmp_path / "run", "save_seconds=0").exit_code == 2
    result = train(parts, tmp_path / "run")
    assert "low: resumed after step 3 of 6" in result.output
    ours, theirs = weights(tmp_path / "run", "low"), weights(run, "low")
    assert all(torch.equal(ours[n], theirs[n]) for n in theirs)


@pytest.fixture
def model(make_model, specs):
    return make_model(vision=specs.vision)[0]


def test_any_part_may_have_adapters_and_their_bases_are_proven_frozen(model):
    patterns = with_lora(model, {"encoders.vision": {"r": 2.0, "lr": 1e-3}}, {"projectors": 1e-4})
    groups = param_groups(model, patterns, warmup=0.1)
    before = frozen_hashes(model)
    assert set(before) == {"language_model", "encoders.vision"}
    names = [name for name, _ in adapted(model)]
    assert names and all(name.startswith("encoders.vision") for name in names)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n.partition(".")[0] for n in trained if ".lora_" not in n} == {"projectors"}
    assert len([n for n in trained if ".lora_" in n]) == 2 * len(names)
    assert "encoders.vision.*lora_[AB].*" in describe(model, "x", groups)
    optimizer = torch.optim.AdamW(groups)
    model.train()
    for _ in range(2):
        model.encode("vision", torch.randn(2, 3, 48, 48)).square().sum().backward()
        optimizer.step()
    assert frozen_hashes(model) == before
    moved = merged(model, model.state_dict())
    assert not [name for name in moved if "lora" in name or "base_layer" in name]
    with torch.no_grad():
        model.encoders.get_submodule(names[0].partition(".")[2]).base_layer.weight += 1
    assert frozen_hashes(model) != before


def test_adapters_change_nothing_at_first(model):
    ids = torch.arange(5, 25)[None]
    before = model(input_ids=ids).logits
    plain = {n: w.clone() for n, w in model.state_dict().items()}
    with_lora(model, {"language_model": {"lr": 1e-3}})
    assert torch.equal(model(input_ids=ids).logits, before)
    after = merged(model, model.state_dict())
    assert plain.keys() == after.keys()
    assert all(torch.equal(plain[n], after[n]) for n in plain)
    assert isinstance(model.get_output_embeddings(), nn.Linear)  # no adapter on it


def test_a_learning_rate_may_come_from_trainable(model):
    with pytest.raises(PatternError, match="'language_model': give it lr, or name it in train"):
        with_lora(model, {"language_model": {"r": 2.0}}, {"projectors": 1e-3})


def test_a_pattern_of_trainable_reaches_its_adapters(model):
    patterns = with_lora(model, {"language_model.model.layers.0": {"r": 2.0}},
                         {"language_model.model.layers.0": 1e-3})  # fmt: skip
    groups = set_trainable(model, patterns)
    names = groups["language_model.model.layers.0"]
    assert [n for n in names if ".lora_A." in n]
    assert not [n for n in names if ".base_layer." in n]


@pytest.mark.parametrize("pattern", ["language", "*.norm", "projectors.visoin"])
def test_a_pattern_without_a_linear_layer_is_an_error(model, pattern):
    with pytest.raises(PatternError, match=r"lora pattern .* matches no linear layer; near: "):
        with_lora(model, {pattern: {"lr": 1e-3}})
