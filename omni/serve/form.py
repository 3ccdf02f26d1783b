"""The fields of a form of several parts: texts, and files as bytes."""

import contextlib
import json
import logging
import math
from typing import Any

from .fields import Fields
from .refusal import RequestError, short

MIME = "multipart/form-data"
MOST_PARTS = 32
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # what is wrong, the client reads


class Form(Fields):
    """A form's values are texts; what is wanted of another type is read as JSON writes it.

    Args:
        values: texts, and files as bytes.
    """

    def take(self, name: str, *kinds: type, default: Any = ...) -> Any:
        if str not in kinds:
            self._read(name)
        return super().take(name, *kinds, default=default)

    def allow(self, **neutral: tuple[Any, ...]) -> None:
        for name, values in neutral.items():
            if not any(isinstance(value, str) for value in values):
                self._read(name)
        super().allow(**neutral)

    def _read(self, name: str) -> None:
        if isinstance(text := self.left.get(name), str):
            with contextlib.suppress(ValueError, RecursionError):  # it stays a text, and is refused
                self.left[name] = json.loads(text)


def read_form(body: bytes, content_type: str) -> Form:
    """Take a body apart.

    Args:
        body: all of it.
        content_type: the header, which names what stands between the parts.

    Raises:
        RequestError: it is no form, not whole, has too many parts, or two of one name.
    """
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import FormParser, parse_options_header

    values: dict[str, Any] = {}
    ended: list[bool] = []

    def add(name: bytes | None, value: bytes, is_file: bool) -> None:
        if len(values) == MOST_PARTS:
            raise RequestError(f"more parts than the limit of {MOST_PARTS} in a form")
        key = _text(name or b"", None)
        if key in values:
            raise RequestError("is there twice", key[:100])
        values[key] = value if is_file else _text(value, key[:100])

    def add_file(file: Any) -> None:
        add(file.field_name, file.file_object.getvalue(), True)
        file.close()

    _, options = parse_options_header(content_type)
    config = {"MAX_MEMORY_FILE_SIZE": math.inf, "UPLOAD_ERROR_ON_BAD_CTE": True}  # never on disk
    try:
        parser = FormParser(
            MIME, lambda field: add(field.field_name, field.value or b"", False), add_file,
            lambda: ended.append(True), options.get(b"boundary"), config=config,
        )  # fmt: skip
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise RequestError(f"the form cannot be read: {short(str(error))}") from error
    if not ended:
        raise RequestError("the form is cut: its last boundary is missing")
    return Form(values)


def _text(value: bytes, place: str | None) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise RequestError("a text of the form is not UTF-8", place) from error
