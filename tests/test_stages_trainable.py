"""What trains is named; what does not is hashed and compared."""

import pytest
import torch

from stages.recipe.schema import StageConfig
from stages.trainable.patterns import (
    PatternError,
    describe,
    frozen_hashes,
    param_groups,
    set_trainable,
)
from stages.training.trainer import schedule

CONV = {
    "encoder": {"kind": "timm", "architecture": "test_efficientnet", "image_size": 64},
    "projector": {"kind": "patch_concat_mlp"},
}


@pytest.fixture
def model(make_model):
    return make_model(vision=CONV)[0]


def test_what_no_pattern_names_is_frozen(model):
    groups = set_trainable(model, {"projectors.vision": 1e-3})
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == set(groups["projectors.vision"])
    assert {n.rpartition("vision")[0] for n in trained} == {"projectors."}


def test_the_last_matching_pattern_holds(model):
    patterns = {"language_model": 1e-5, "language_model.model.layers.1": 1e-4, "*.norm.*": 1e-3}
    groups = set_trainable(model, patterns)
    assert all(".layers.1." in n for n in groups["language_model.model.layers.1"])
    assert "projectors.vision.norm.weight" in groups["*.norm.*"]
    assert not any(".layers.1." in n for n in groups["language_model"])


@pytest.mark.parametrize("pattern", ["projector.vision", "projectors.audio", "language"])
def test_a_pattern_without_a_match_names_its_neighbours(model, pattern):
    with pytest.raises(PatternError, match=f"'{pattern}' matches no parameter; near: .*[a-z]"):
        set_trainable(model, {pattern: 1e-3})


def test_vectors_are_not_decayed(model):
    groups = param_groups(model, {"projectors.vision": 1e-3}, weight_decay=0.1)
    for group in groups:
        assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])
    assert len(groups) == 2


def test_frozen_hashes_see_parameters_and_buffers(model):
    set_trainable(model, {"projectors.vision": 1e-3})
    before = frozen_hashes(model)
    assert set(before) == {"language_model", "encoders.vision"}
    with torch.no_grad():
        next(model.projectors.parameters()).add_(1)  # trained: may move
    assert frozen_hashes(model) == before
    statistics = next(b for n, b in model.named_buffers() if n.endswith("running_mean"))
    statistics.add_(1e-6)
    assert {n for n in before if frozen_hashes(model)[n] != before[n]} == {"encoders.vision"}
    with torch.no_grad():
        model.language_model.model.norm.weight[0] += 1e-6
    assert not set(before.items()) & set(frozen_hashes(model).items())


def test_training_leaves_a_frozen_encoders_statistics_alone(model, make_picture):
    set_trainable(model, {"projectors.vision": 1e-3})
    before = frozen_hashes(model)
    model.train()
    assert model.training
    assert model.projectors["vision"].training
    assert not model.encoders["vision"].training
    model.encode("vision", torch.randn(2, 3, 64, 64))
    assert frozen_hashes(model) == before


def test_a_trained_encoders_statistics_may_move(model):
    set_trainable(model, {"encoders.vision": 1e-3})
    before = frozen_hashes(model)
    statistics = {n: b.clone() for n, b in model.named_buffers() if n.endswith("running_mean")}
    model.train()
    model.encode("vision", torch.randn(2, 3, 64, 64))
    after = dict(model.named_buffers())
    assert any(not torch.equal(statistics[n], after[n]) for n in statistics)
    assert frozen_hashes(model) == before


PATTERNS = {
    "language_model": {"lr": 1e-5, "weight_decay": 0.2, "warmup": 0.5},
    "language_model.model.embed_tokens": None,
    "projectors.vision": 1e-3,
}


def test_a_pattern_has_its_own_learning_rate_decay_and_warmup(model):
    groups = param_groups(model, PATTERNS, weight_decay=0.1, warmup=0.05)
    told = {(g["pattern"], g["lr"], g["weight_decay"], g["warmup"]) for g in groups}
    assert told == {
        ("language_model", 1e-5, 0.2, 0.5), ("language_model", 1e-5, 0.0, 0.5),
        ("projectors.vision", 1e-3, 0.1, 0.05), ("projectors.vision", 1e-3, 0.0, 0.05),
    }  # fmt: skip
    stage = StageConfig(name="x", steps=100)
    assert schedule(25, stage, 0.5) == 0.5
    assert schedule(25, stage, 0.05) > 0.8


@pytest.mark.parametrize("off", [0.0, None, {"lr": 0.0}])
def test_a_learning_rate_of_nothing_freezes(model, off):
    patterns = {"language_model": 1e-5, "language_model.model.embed_tokens": off}
    groups = set_trainable(model, patterns)
    assert groups["language_model.model.embed_tokens"] == []
    assert not model.get_input_embeddings().weight.requires_grad
    assert groups["language_model"]
    with pytest.raises(PatternError, match="nothing trains"):
        set_trainable(model, {"language_model": off})


def test_what_trains_is_shown_by_part_and_pattern(model):
    patterns = PATTERNS | {"language_model.model.layers.1": 1e-4}
    groups = param_groups(model, patterns, weight_decay=0.1, warmup=0.05)
    title, head, *rows = describe(model, "sft", groups).splitlines()
    assert title == "sft: what trains"
    assert head.split() == ["part", "parameters", "train", "pattern", "lr", "decay", "warm-up"]
    cells = [row.split() for row in rows]
    assert [row[0] for row in cells] == ["language_model"] * 2 + ["encoders.vision",
                                                                  "projectors.vision"]  # fmt: skip
    assert cells[2][2] == "frozen"
    assert cells[0][3:] == ["language_model", "1.0e-05", "0.2", "50%"]
    assert cells[3][3:] == ["projectors.vision", "1.0e-03", "0.1", "5%"]
    assert cells[3][1] == cells[3][2]
    trained = sum(p.numel() for p in model.language_model.parameters() if p.requires_grad)
    shown = [int(row[2].replace(",", "")) for row in cells[:2]]
    assert sum(shown) == trained < int(cells[0][1].replace(",", ""))
