"""What every request passes: the key, its size, its speed, and the count of how it ended."""

import asyncio
import hmac
import json
from typing import Any

from .limits import RequestLimits
from .metrics import Metrics
from .refusal import RequestError, error_body, short

JSON = "application/json"
OPEN = "/health"  # asked by those who watch, without a key
HELD = 4  # bodies of the largest size that may be in memory at once


class Door:
    """An ASGI application around another.

    Args:
        app: what is behind.
        metrics: count each request by path and status.
        paths: that there are; others are counted as one.
        key: that a request must show, if there is one.
    """

    def __init__(self, app: Any, metrics: Metrics, paths: frozenset[str], key: str = "") -> None:
        self.app, self.metrics, self.paths, self.key = app, metrics, paths, key

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self.paths else "other"

        async def counted(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.metrics.requests.labels(path, str(message["status"])).inc()
            await send(message)

        if self.key and path != OPEN and not self._known(scope):
            error = error_body("the API key is missing or wrong", 401, code="invalid_api_key")
            body = json.dumps(error).encode()
            headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
            await counted({"type": "http.response.start", "status": 401, "headers": headers})
            await counted({"type": "http.response.body", "body": body})
            return
        await self.app(scope, receive, counted)

    def _known(self, scope: Any) -> bool:
        shown = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(shown, b"Bearer " + self.key.encode())


class Bodies:
    """Reads bodies within limits, of each and of all that are in memory at once."""

    def __init__(self, limits: RequestLimits) -> None:
        self.limits, self.held = limits, 0

    async def read(self, request: Any, wanted: str) -> bytes:
        """Return the body of a request; the caller gives it back by `release`.

        Args:
            request: of starlette.
            wanted: the type of its content.

        Raises:
            RequestError: it is too large, too slow, of another type, a form that a page of another
                site sends, or there is no room.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != wanted:
            raise RequestError(f"send it with Content-Type: {wanted}", status=415)
        origin = request.headers.get("origin")  # browsers ask before they send JSON, but not forms
        if kind != JSON and origin and origin.partition("://")[2] != request.headers.get("host"):
            raise RequestError(f"forms of another site are refused: {short(origin)}", status=403)
        size = request.headers.get("content-length", "0")
        if size.isdecimal() and int(size[:20]) > self.limits.max_body:
            raise self._large()
        try:
            return await asyncio.wait_for(self._all(request), self.limits.body_seconds)
        except TimeoutError as error:
            seconds = self.limits.body_seconds
            raise RequestError(f"the body took more than {seconds:g} s", status=408) from error

    def release(self, body: bytes) -> None:
        """Make room again."""
        self.held -= len(body)

    async def _all(self, request: Any) -> bytes:
        from starlette.requests import ClientDisconnect

        data = bytearray()
        try:
            async for chunk in request.stream():
                self.held += len(chunk)
                data += chunk
                if len(data) > self.limits.max_body:
                    raise self._large()
                if self.held > HELD * self.limits.max_body:
                    raise RequestError("too many large requests at once; try again", status=429)
        except BaseException as error:
            self.held -= len(data)
            if isinstance(error, ClientDisconnect):
                raise RequestError("the client went away", status=499) from error
            raise
        return bytes(data)

    def _large(self) -> RequestError:
        return RequestError(
            f"the body is over the limit of {self.limits.max_body:,} bytes", status=413
        )
