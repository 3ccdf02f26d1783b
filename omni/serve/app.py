"""The HTTP application: OpenAI's paths over one engine."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from .door import JSON, Bodies, Door
from .encoding import Encoder
from .engine import Engine
from .form import MIME, read_form
from .limits import RequestLimits
from .refusal import RequestError, error_body
from .replies import Reply
from .request import Asked, read_chat, read_completion, read_json
from .sources import Sources
from .ticket import DeadError, EngineError, Event, Failed, FullError, GoneError, LateError
from .transcript import Transcribed, Transcript, read_transcription

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

ENCODING = 2  # threads that decode media; what they hold is bounded by this
STATUS = {FullError: 429, DeadError: 503, LateError: 504, GoneError: 499}  # others: 500


def make_app(
    engine: Engine, name: str, limits: RequestLimits = RequestLimits(),  # noqa: B008 - frozen
    sources: Sources = Sources(), key: str = "",  # noqa: B008 - frozen
) -> "FastAPI":  # fmt: skip
    """Put an engine behind HTTP.

    Args:
        engine: answers; closed by whoever made it.
        name: of the model, as clients ask for it.
        limits: of a request.
        sources: where media may come from.
        key: that each request must show; none by default.
    """
    from fastapi import FastAPI
    from starlette.exceptions import HTTPException

    app = FastAPI(title="omni-serve", docs_url=None, redoc_url=None, openapi_url=None)
    paths = _Paths(engine, name, limits, sources)
    routes = {"/v1/chat/completions": (paths.chat, "POST"), "/health": (paths.health, "GET"),
              "/v1/completions": (paths.completion, "POST"), "/metrics": (paths.metrics, "GET"),
              "/v1/audio/transcriptions": (paths.transcription, "POST"),
              "/v1/models": (paths.models, "GET")}  # fmt: skip
    for path, (answer, method) in routes.items():
        app.router.add_route(path, answer, methods=[method])
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(EngineError, _failed)
    app.add_exception_handler(HTTPException, _no_path)
    app.add_exception_handler(Exception, _broken)
    app.add_middleware(Door, metrics=engine.metrics, paths=frozenset(routes), key=key)
    return app


class _Paths:
    """What each path answers."""

    def __init__(self, engine: Engine, name: str, limits: RequestLimits, sources: Sources) -> None:
        self.engine, self.name, self.limits, self.sources = engine, name, limits, sources
        context = engine.model.config.get_text_config(decoder=True).max_position_embeddings
        self.encoder = Encoder(engine.processor, context, limits)
        self.bodies = Bodies(limits)
        self.threads = ThreadPoolExecutor(ENCODING, "encode")
        self.made = int(time.time())

    async def chat(self, request: "Request") -> "Response":
        def read(body: bytes) -> Asked:
            return read_chat(read_json(body), self.name, self.limits, self.sources)

        return await self._answer(request, JSON, read, partial(self._reply, True))

    async def completion(self, request: "Request") -> "Response":
        def read(body: bytes) -> Asked:
            return read_completion(read_json(body), self.name, self.limits)

        return await self._answer(request, JSON, read, partial(self._reply, False))

    async def transcription(self, request: "Request") -> "Response":
        def read(body: bytes) -> Transcribed:
            form = read_form(body, request.headers["content-type"])
            return read_transcription(form, self.name, self.limits)

        return await self._answer(request, MIME, read, Transcript)

    async def models(self, request: "Request") -> "Response":
        model = {"id": self.name, "object": "model", "created": self.made, "owned_by": "omni"}
        return _sent({"object": "list", "data": [model]})

    async def health(self, request: "Request") -> "Response":
        alive = self.engine.alive
        return _sent({"ok": alive}, 200 if alive else 503)

    async def metrics(self, request: "Request") -> "Response":
        from starlette.responses import Response

        return Response(self.engine.metrics.page, media_type="text/plain; version=0.0.4")

    async def _answer(
        self, request: "Request", mime: str, read: Callable[[bytes], Any],
        make_reply: Callable[[Any, int], Any],
    ) -> "Response":  # fmt: skip
        """Answer a request.

        Args:
            request: of starlette.
            mime: the type that its body must have.
            read: makes what is asked of the body.
            make_reply: makes what collects events of what is asked and its number of tokens.
        """
        from starlette.responses import StreamingResponse

        self.engine.check_room()
        body = await self.bodies.read(request, mime)
        try:
            ready = asyncio.get_running_loop().run_in_executor(
                self.threads, lambda: self._prepare(read, body)
            )
            asked, prompt, key, generation = await ready
        finally:
            self.bodies.release(body)
        reply = make_reply(asked, len(prompt))
        events = follow(self.engine, request, prompt, key, generation, asked.seconds)
        first = await anext(events)  # what fails before there is a token has a status of its own
        if asked.stream:
            lines = _lines(reply, first, events)
            return StreamingResponse(lines, media_type="text/event-stream")
        reply.add(first)
        async for event in events:
            reply.add(event)
        return _sent(reply.body)

    def _prepare(self, read: Callable[[bytes], Asked], body: bytes) -> Any:
        asked = read(body)
        return asked, *self.encoder(asked)

    def _reply(self, chat: bool, asked: Asked, prompt_tokens: int) -> Reply:
        tokenizer = self.engine.processor.tokenizer if asked.logprobs else None
        return Reply(self.name, chat, asked.generation.n, prompt_tokens, tokenizer, asked.usage)


async def follow(
    engine: Engine, request: "Request", prompt: Any, key: str, generation: Any, seconds: float
) -> AsyncIterator[Event]:
    """Ask the engine, and yield what it reports until all is whole; let go when the client does.

    Raises:
        EngineError: there is no answer.
    """
    loop, queue = asyncio.get_running_loop(), asyncio.Queue()

    def report(event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop may have been closed with the server
            loop.call_soon_threadsafe(queue.put_nowait, event)

    ticket = engine.submit(prompt, key, generation, report, seconds)

    async def let_go() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        engine.cancel(ticket)
        queue.put_nowait(Failed(GoneError("the client went away")))

    watch = asyncio.create_task(let_go())
    try:
        ended: set[int] = set()
        while len(ended) < generation.n:
            event = await queue.get()
            if isinstance(event, Failed):
                raise event.error
            if hasattr(event, "completion"):
                ended.add(event.choice)
            yield event
    finally:
        watch.cancel()
        engine.cancel(ticket)


async def _lines(reply: Any, first: Event, events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    try:
        reply.add(first)
        for line in reply.chunks(first):
            yield line
        async for event in events:
            reply.add(event)
            for line in reply.chunks(event):
                yield line
    except EngineError as error:  # too late for a status
        yield b"data: " + json.dumps(error_body(str(error), _status(error))).encode() + b"\n\n"


def _status(error: Exception) -> int:
    return STATUS.get(type(error), 500)


def _sent(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> "Response":
    from starlette.responses import Response

    if isinstance(body, str):
        return Response(body.encode(errors="replace"), status, headers, "text/plain")
    # in ASCII: a text may hold halves of surrogate pairs
    return Response(json.dumps(body), status, headers, "application/json")


async def _refused(request: Any, error: Any) -> "Response":
    headers = {"Retry-After": "1"} if error.status == 429 else None
    return _sent(error.body, error.status, headers)


async def _failed(request: Any, error: Any) -> "Response":
    headers = {"Retry-After": str(error.after)} if isinstance(error, FullError) else None
    return _sent(error_body(str(error), _status(error)), _status(error), headers)


async def _no_path(request: Any, error: Any) -> "Response":
    text = f"{request.method} {request.url.path[:200]}: {error.detail}"
    return _sent(error_body(text, error.status_code), error.status_code)


async def _broken(request: Any, error: Any) -> "Response":
    return _sent(error_body(f"a fault of the server: {type(error).__name__}", 500), 500)
