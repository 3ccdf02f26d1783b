"""Pattern -> learning rate. What no pattern names is frozen."""

import difflib
import hashlib
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from .engine import whole


class PatternError(ValueError):
    """A pattern that matches no parameter."""


def matches(pattern: str, name: str) -> bool:
    """Tell whether `pattern` is the parameter, a module above it, or a glob of either."""
    return name == pattern or fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def set_trainable(model: nn.Module, patterns: dict[str, float]) -> dict[str, list[str]]:
    """Freeze the model, then unfreeze what the patterns name.

    Args:
        model: changed in place.
        patterns: pattern -> learning rate; where several match, the last one holds.

    Returns:
        The names of the parameters that each pattern trains.

    Raises:
        PatternError: a pattern matches nothing; the nearest module names are given.
    """
    groups: dict[str, list[str]] = {pattern: [] for pattern in patterns}
    hit = dict.fromkeys(patterns, False)
    for name, parameter in model.named_parameters():
        matching = [pattern for pattern in patterns if matches(pattern, name)]
        for pattern in matching:
            hit[pattern] = True
        parameter.requires_grad_(bool(matching))
        if matching:
            groups[matching[-1]].append(name)
    for pattern, found in hit.items():
        if not found:
            modules = [name for name, _ in model.named_modules() if name.count(".") < 3 and name]
            near = difflib.get_close_matches(pattern, modules, n=3, cutoff=0.3)
            raise PatternError(
                f"trainable pattern {pattern!r} matches no parameter; near: {', '.join(near)}"
            )
    return groups


def param_groups(
    model: nn.Module, patterns: dict[str, float], weight_decay: float
) -> list[dict[str, Any]]:
    """Make optimizer groups; vectors (biases, norms) are never decayed."""
    named = dict(model.named_parameters())
    groups = []
    for pattern, names in set_trainable(model, patterns).items():
        for decay, of_group in (
            (weight_decay, [named[n] for n in names if named[n].ndim > 1]),
            (0.0, [named[n] for n in names if named[n].ndim <= 1]),
        ):
            if of_group:
                groups.append({"params": of_group, "lr": patterns[pattern], "weight_decay": decay,
                               "pattern": pattern})  # fmt: skip
    return groups


def _moving(model: nn.Module) -> set[str]:
    """Name what training may change: trained parameters, and their modules' own buffers."""
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    owners = {name.rpartition(".")[0] for name in trained}  # of batch norm statistics
    return {
        name
        for name, tensor in model.state_dict(keep_vars=True).items()
        if tensor.requires_grad
        or (name.rpartition(".")[0] in owners and not isinstance(tensor, nn.Parameter))
    }


def frozen_hashes(model: nn.Module) -> dict[str, str]:
    """Hash what does not train, buffers included, per part: "language_model", "encoders.x", ..."""
    moving = _moving(model)
    digests: dict[str, Any] = {}
    for name, tensor in model.state_dict().items():
        if name in moving:
            continue
        head, second, *_ = name.split(".")
        part = f"{head}.{second}" if head in ("encoders", "projectors") else head
        raw = whole(tensor).contiguous().cpu().view(torch.uint8 if tensor.ndim else tensor.dtype)
        digests.setdefault(part, hashlib.sha256()).update(name.encode() + raw.numpy().tobytes())
    return {part: digest.hexdigest() for part, digest in digests.items()}
