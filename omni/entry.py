"""An entry of a recipe, or of a part's spec, that is wrong."""

from typing import Any


class EntryError(ValueError):
    """What was written cannot be; `keys` lead to it from where whoever raises this looks."""

    def __init__(self, reason: object, *keys: str):
        super().__init__(reason)
        self.keys = keys


def check_whole(key: str, value: Any, *before: str) -> None:
    """Refuse what is no whole number from 1.

    Args:
        key: what it is called.
        value: what was written.
        before: keys that lead to where `key` is.

    Raises:
        EntryError: it is none.
    """
    if type(value) is not int or value < 1:
        raise EntryError(f"{key} is a whole number from 1, not {value!r}", *before, key)
