"""Pattern -> how it is trained. What no pattern names is frozen, and shown to be so by a hash."""

import difflib
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from omni.entry import EntryError

from ..engine.distribute import full_tensor
from ..recipe.rule import rule_of


class PatternError(EntryError):
    """A pattern that matches nothing, or patterns that train nothing."""


def matches(pattern: str, name: str) -> bool:
    """Tell whether `pattern` is the parameter, a module above it, or a glob of either."""
    return name == pattern or fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def set_trainable(model: nn.Module, patterns: Mapping[str, Any]) -> dict[str, list[str]]:
    """Freeze the model, then unfreeze what the patterns name.

    Args:
        model: changed in place.
        patterns: pattern -> learning rate or mapping, see `stages.recipe.rule`; where several
            match, the last one holds, and one whose learning rate is 0 freezes.

    Returns:
        The names of the parameters that each pattern trains.

    Raises:
        PatternError: a pattern matches nothing (the nearest module names are given), or nothing
            trains.
    """
    groups: dict[str, list[str]] = {pattern: [] for pattern in patterns}
    hit = dict.fromkeys(patterns, False)
    for name, parameter in model.named_parameters():
        matching = [pattern for pattern in patterns if matches(pattern, name)]
        for pattern in matching:
            hit[pattern] = True
        trains = bool(matching) and rule_of(patterns[matching[-1]]).lr > 0
        parameter.requires_grad_(trains)
        if trains:
            groups[matching[-1]].append(name)
    for pattern, found in hit.items():
        if not found:
            names = (name for name, _ in model.named_parameters())
            raise no_match("trainable", pattern, names, "parameter")
    if not any(groups.values()):
        raise PatternError(
            f"nothing trains: {dict(patterns)} gives no parameter a learning rate", "trainable"
        )
    return groups


def no_match(key: str, pattern: str, names: Iterable[str], kind: str) -> PatternError:
    """Return the error for a pattern that matches none of some parameters, with its neighbours.

    Args:
        key: of the recipe.
        pattern: what matches none.
        names: of the parameters.
        kind: what they are.
    """
    names, there = [*names], {}  # of modules and parameters, layers alike as one
    for name in names:
        parts = _any_layer(name).split(".")
        there |= dict.fromkeys(".".join(parts[:n]) for n in range(1, len(parts) + 1))
    near = difflib.get_close_matches(_any_layer(pattern), there, n=3, cutoff=0.3)
    near = near or dict.fromkeys(map(part_of, names))
    return PatternError(
        f"{key} pattern {pattern!r} matches no {kind}; near: {', '.join(near)}", key, pattern
    )


def _any_layer(name: str) -> str:
    return re.sub(r"\.\d+(?=\.|$)", ".*", name)


def param_groups(
    model: nn.Module, patterns: Mapping[str, Any], weight_decay: float = 0.0, warmup: float = 0.0
) -> list[dict[str, Any]]:
    """Make optimizer groups, each with its `pattern` and `warmup`.

    Vectors (biases, norms) are never decayed. What a pattern leaves open is `weight_decay` and
    `warmup`.
    """
    named = dict(model.named_parameters())
    groups = []
    for pattern, names in set_trainable(model, patterns).items():
        rule = rule_of(patterns[pattern])
        decayed = weight_decay if rule.weight_decay is None else rule.weight_decay
        for decay, of_group in (
            (decayed, [named[n] for n in names if named[n].ndim > 1]),
            (0.0, [named[n] for n in names if named[n].ndim <= 1]),
        ):
            if of_group:
                groups.append({
                    "params": of_group, "lr": rule.lr, "weight_decay": decay, "pattern": pattern,
                    "warmup": warmup if rule.warmup is None else rule.warmup,
                })  # fmt: skip
    return groups


def describe(model: nn.Module, title: str, groups: list[dict[str, Any]]) -> str:
    """Return a table: each part's parameters, and how many of them train by which pattern, how."""
    of = {id(p): group for group in groups for p in group["params"]}
    sizes: Counter[str] = Counter()
    trained: dict[str, Counter[str]] = defaultdict(Counter)
    for name, parameter in model.named_parameters():
        part = part_of(name)
        sizes[part] += parameter.numel()
        if group := of.get(id(parameter)):
            trained[part][group["pattern"]] += parameter.numel()
    wide = max(len("pattern"), *(len(group["pattern"]) for group in groups))
    rows = [f"{title}: what trains", f"  {'part':<20} {'parameters':>13} {'train':>13}  "
            f"{'pattern':<{wide}} {'lr':>8} {'decay':>6} {'warm-up':>7}"]  # fmt: skip
    for part, size in sizes.items():
        head = f"  {part:<20} {size:>13,}"
        if not trained[part]:
            rows.append(f"{head} {'frozen':>13}")
        for pattern, count in trained[part].items():
            mine = [group for group in groups if group["pattern"] == pattern]
            decay = max(group["weight_decay"] for group in mine)
            rows.append(f"{head} {count:>13,}  {pattern:<{wide}} {mine[0]['lr']:>8.1e} {decay:>6g} "
                        f"{mine[0]['warmup']:>7.0%}")  # fmt: skip
    return "\n".join(rows)


def part_of(name: str) -> str:
    """Return the part of the model that a tensor belongs to: "language_model", "encoders.x"."""
    head, _, rest = name.partition(".")
    several = ("encoders", "projectors", "heads")
    return f"{head}.{rest.partition('.')[0]}" if head in several else head


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
        raw = (
            full_tensor(tensor)
            .contiguous()
            .cpu()
            .view(torch.uint8 if tensor.ndim else tensor.dtype)
        )
        digests.setdefault(part_of(name), hashlib.sha256()).update(
            name.encode() + raw.numpy().tobytes()
        )
    return {part: digest.hexdigest() for part, digest in digests.items()}
