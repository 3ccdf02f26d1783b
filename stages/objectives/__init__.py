"""Objectives: (model, batch, label count) -> loss. Adding one is one file and one line here."""

from collections.abc import Callable
from typing import Any

import torch

from .sft import sft

OBJECTIVES: dict[str, Callable[[Any, dict[str, torch.Tensor], torch.Tensor], torch.Tensor]] = {
    "sft": sft,
}
