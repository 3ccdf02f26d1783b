"""What an objective would keep beside the model that trains, without the memory for it."""

import copy
from typing import Any

import torch
from torch import nn

from ..objectives import make_objective
from ..recipe.schema import Recipe, StageConfig
from ..training.reference import stores_reference


def sketch_reference(recipe: Recipe, stage: StageConfig, model: Any) -> nn.Module | None:
    """Return the frozen module that a stage compares its model with, on the meta device.

    Args:
        recipe: says whether log-probabilities stand for it.
        stage: with its objective.
        model: as the stage begins to train it; its weights are not copied.
    """
    if stores_reference(recipe, stage):
        return None
    known: dict[int, Any] = {id(model.feature_cache): None}
    for tensor in (*model.parameters(), *model.buffers()):
        shape = torch.empty_like(tensor, device="meta")
        weight = isinstance(tensor, nn.Parameter)
        known[id(tensor)] = nn.Parameter(shape, tensor.requires_grad) if weight else shape
    return make_objective(stage.objective).make_extra(copy.deepcopy(model, known))
