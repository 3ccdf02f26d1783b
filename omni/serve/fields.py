"""The fields of a JSON object: each is taken by name and type, and none is left over."""

import math
from typing import Any

from .refusal import RequestError, short

_NAMES = {str: "a string", bool: "true or false", int: "a whole number", float: "a number",
          list: "a list", dict: "an object", bytes: "a file"}  # fmt: skip


class Fields:
    """An object of a request; a field that is null counts as absent, as OpenAI's clients send it.

    Args:
        value: what JSON made of it.
        place: where it stands, e.g. `messages[0]`; "" for the request itself.

    Raises:
        RequestError: it is no object.
    """

    def __init__(self, value: Any, place: str = "") -> None:
        if type(value) is not dict:
            raise RequestError(f"must be an object, not {short(value)}", place or None)
        self.place = place
        self.left = {name: field for name, field in value.items() if field is not None}

    def at(self, name: str) -> str:
        """Say where a field stands."""
        return f"{self.place}.{name}" if self.place else name

    def take(self, name: str, *kinds: type, default: Any = ...) -> Any:
        """Take a field out; a float may be written as a whole number.

        Raises:
            RequestError: it is of another type, or is not there and has no default.
        """
        if name not in self.left:
            if default is ...:
                raise RequestError("is missing", self.at(name))
            return default
        value = self.left.pop(name)
        fits = type(value) in kinds or (float in kinds and type(value) is int)
        if not fits or (type(value) is float and not math.isfinite(value)):
            wanted = " or ".join(_NAMES[kind] for kind in kinds)
            raise RequestError(f"must be {wanted}, not {short(value)}", self.at(name))
        return check_text(value, self.at(name)) if type(value) is str else value

    def allow(self, **neutral: tuple[Any, ...]) -> None:
        """Take fields out that may only have values with which they change nothing.

        Raises:
            RequestError: one has another.
        """
        for name, values in neutral.items():
            value = self.left.pop(name, values[0])
            if not any(value == one and isinstance(value, bool) == isinstance(one, bool)
                       for one in values):  # fmt: skip
                raise RequestError(f"{short(value)} is not supported; leave it out", self.at(name))

    def close(self) -> None:
        """Refuse what nobody took.

        Raises:
            RequestError: names the first field that is not known.
        """
        for name in self.left:
            raise RequestError("is not known to this server; leave it out", self.at(name[:100]))


def check_text(text: str, place: str) -> str:
    """Return a text that is one: half of a surrogate pair is no character.

    Raises:
        RequestError: it has such a half.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError("holds half of a surrogate pair, no character", place) from error
    return text
