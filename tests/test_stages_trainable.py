"""What trains is named; what does not is hashed and compared."""

import pytest
import torch

from stages.trainable import PatternError, frozen_hashes, param_groups, set_trainable

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
