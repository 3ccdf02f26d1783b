"""What is wrong with a request, in the shape in which OpenAI's clients expect it."""

from typing import Any

MOST = 120  # characters of what was given that an error repeats


class RequestError(ValueError):
    """A request that is refused; says which part of it, why, and what is allowed.

    Args:
        reason: for the person who reads it.
        param: where it is, e.g. `messages[2].content[1]`.
        status: of HTTP.
        code: a word for programs, where OpenAI has one.
    """

    def __init__(
        self, reason: str, param: str | None = None, status: int = 400, code: str | None = None
    ) -> None:
        super().__init__(f"{param}: {reason}" if param else reason)
        self.param, self.status, self.code = param, status, code

    @property
    def body(self) -> dict[str, Any]:
        """What is sent."""
        return error_body(str(self), self.status, self.param, self.code)


def error_body(
    message: str, status: int, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """Make OpenAI's description of an error."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def short(value: Any) -> str:
    """Repeat what was given, but not all of a long one."""
    text = repr(value[:MOST] if isinstance(value, str | bytes) else value)
    return text if len(text) <= MOST else text[:MOST] + "..."
