"""A mapping in a recipe -> a dataclass of what it says, or the key that is wrong."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from omni.entry import EntryError
from omni.generation.settings import Generation
from omni.nearest import nearest


def read_entry(kind: Any, entry: Any, *keys: str) -> Any:
    """Return the dataclass `kind` of an entry, to which `keys` lead.

    A field whose name is a word of Python ends with _, which the recipe leaves out.

    Raises:
        EntryError: an unknown key (the nearest is named), one that is missing, or a value that
            cannot be.
    """
    if not isinstance(entry, Mapping):
        raise EntryError(f"{keys[-1] if keys else 'the entry'} is a mapping, not {entry!r}", *keys)
    known = {field.name.rstrip("_"): field for field in fields(kind)}
    for key in entry:
        if key not in known:
            raise EntryError(f"unknown key {key!r}; {nearest(key, known)}", *keys, str(key))
    for key, field in known.items():
        if key not in entry and field.default is MISSING and field.default_factory is MISSING:
            raise EntryError(f"the key {key!r} is required", *keys)
    try:
        return kind(**{known[key].name: value for key, value in entry.items()})
    except EntryError as error:
        raise EntryError(error, *keys, *error.keys) from error


def check_generation(entry: Any, *names: str) -> None:
    """Refuse fields of these names that no `Generation` has.

    Raises:
        EntryError: says what may be given.
    """
    for name in names:
        try:
            Generation(**{name: getattr(entry, name)})
        except ValueError as error:
            raise EntryError(error, name) from error
