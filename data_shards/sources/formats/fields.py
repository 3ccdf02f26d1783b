"""Rows that know which of their keys were read, so that what a source does not use has a name."""

from collections.abc import Iterator, Mapping
from typing import Any


class Fields(dict[str, Any]):
    """A row, or a turn or part in it, that notes which of its keys are read.

    Only `get` and `[]` read; looking whether a key is there, or at all of them, does not.
    """

    def __init__(self, values: Mapping[str, Any]):
        super().__init__({key: _wrapped(value) for key, value in values.items()})
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value and note that it was read."""
        self.read.add(key)
        return super().get(key, default)

    def first(self, *keys: str) -> Any:
        """Return the first value that is not empty and note that alone as read, else None."""
        key = next((key for key in keys if not empty(super(Fields, self).get(key))), None)
        return None if key is None else self[key]


def _wrapped(value: Any) -> Any:
    if isinstance(value, dict):
        return Fields(value)
    return [_wrapped(item) for item in value] if isinstance(value, list) else value


def empty(value: Any) -> bool:
    """Return whether a value says nothing; 0 and False do say something."""
    return value is None or (isinstance(value, str | bytes | list | dict) and not value)


def unread(value: Any, name: str = "") -> Iterator[str]:
    """Yield the names of what holds something and was not read, such as "messages[].weight".

    A part of which no key was read was used whole, or passed over by what holds it.
    """
    if isinstance(value, list):
        for item in value:
            yield from unread(item, f"{name}[]")
    elif isinstance(value, Fields) and (value.read or not name):
        for key, item in value.items():
            path = f"{name}.{key}" if name else key
            if key in value.read:
                yield from unread(item, path)
            elif not empty(item):
                yield path
