"""Worlds whose answers are verified; a new one is one file and one line here.

In a recipe: `environment: generalpoints`, or `environment: {kind: generalpoints, faces: ranks}`.
One of your own need not be listed: `environment: {kind: "my_module:MyWorld"}`.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from importlib import import_module
from typing import Any

from omni.entry import EntryError
from omni.nearest import nearest

from .base import Checked, Environment, EnvironmentFault, State, Verdict, revised

ENVIRONMENTS = {
    "generalpoints": "data_shards.environments.generalpoints.world:GeneralPoints",
    "navigation": "data_shards.environments.navigation:Navigation",
}
"""kind -> "module:class", imported once it is asked for"""

__all__ = [
    "ENVIRONMENTS", "Checked", "Environment", "EnvironmentFault", "Verdict", "environment_class",
    "environment_note", "make_environment", "noted_environment", "revised",
]  # fmt: skip


def environment_class(kind: object) -> Callable[..., Environment]:
    """Return the class of a kind, or of "module:class".

    Raises:
        EntryError: there is none; the nearest is named.
    """
    if isinstance(kind, str) and ":" in kind:
        path = kind
    elif isinstance(kind, str) and kind in ENVIRONMENTS:
        path = ENVIRONMENTS[kind]
    else:
        known = f"{nearest(str(kind), ENVIRONMENTS)}, or MODULE:CLASS of your own"
        raise EntryError(f"unknown environment {kind!r}; {known}", "kind")
    module, name = path.split(":", 1)
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise EntryError(f"environment {kind!r} cannot be imported: {error}", "kind") from error


def make_environment(entry: Any) -> Checked:
    """Make the environment of an entry: a kind, or a mapping with its options.

    Every call of it is checked, see `Checked`.

    Raises:
        EntryError: an unknown kind or option, or an option's value cannot be.
    """
    options = dict(entry) if isinstance(entry, Mapping) else {"kind": entry}
    kind = options.pop("kind", None)
    made = environment_class(kind)
    described: Any = made
    if is_dataclass(described):
        known = [field.name for field in fields(described) if field.init]
        for name in options:
            if name not in known:
                raise EntryError(f"{kind} has no option {name!r}; {nearest(name, known)}", name)
    try:
        return Checked(made(**options), str(kind))
    except TypeError as error:
        raise EntryError(f"environment {kind!r}: {error}") from error


def environment_note(environment: Checked, state: State) -> dict[str, Any]:
    """Return what the meta of a sample says under "environment", so that answers can be verified.

    Returns:
        name, options (those that differ from the defaults) and state.
    """
    world: Any = environment.world
    options: dict[str, Any] = {}
    if is_dataclass(world) and not isinstance(world, type):
        usual = {field.name: field.default for field in fields(world) if field.init}
        options = {name: value for name, value in asdict(world).items()
                   if name in usual and value != usual[name]}  # fmt: skip
    return {"name": environment.kind, "options": options, "state": state}


def noted_environment(note: Any) -> tuple[Checked, State]:
    """Return the environment and the state of what `environment_note` returned.

    Raises:
        EntryError: it is no such note; says what is missing.
    """
    if not isinstance(note, Mapping) or not {"name", "options", "state"} <= set(note):
        raise EntryError("an environment's note has a name, options and a state", "environment")
    return make_environment({**note["options"], "kind": note["name"]}), dict(note["state"])
