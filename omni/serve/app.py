"""The HTTP application: OpenAI's paths over one engine."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from ..generation.speech import SpeechError, Utterance
from ..generation.thinking import without_thinking
from .door import JSON, Bodies, Door
from .encoding import Encoder
from .engine import Engine
from .fields import Fields
from .form import MIME, read_form
from .limits import RequestLimits
from .refusal import RequestError, error_body
from .replies import EVENTS, Reply, event_line
from .request import Asked, read_chat, read_completion, read_json
from .sources import Sources
from .speech.readout import Said, Speech, read_speech
from .speech.reply import SpokenReply
from .ticket import DeadError, Ended, EngineError, Event, Failed, FullError, GoneError, LateError
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
              "/v1/audio/speech": (paths.speech, "POST"),
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
        self.encoder = Encoder(engine.model, engine.processor, limits)
        self.bodies = Bodies(limits)
        self.threads = ThreadPoolExecutor(ENCODING, "encode")
        self.made = int(time.time())

    async def chat(self, request: "Request") -> "Response":
        def read(body: bytes) -> Asked:
            return read_chat(read_json(body), self.name, self.limits, self.sources)

        return await self._answer(request, JSON, read, self._chat_reply)

    async def completion(self, request: "Request") -> "Response":
        def read(body: bytes) -> Asked:
            return read_completion(read_json(body), self.name, self.limits)

        return await self._answer(request, JSON, read, partial(self._reply, False))

    async def speech(self, request: "Request") -> "Response":
        def read(body: bytes) -> Said:
            return read_speech(Fields(read_json(body)), self.name, self.limits)

        return await self._answer(request, JSON, read, Speech)

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

        def prepare() -> tuple[Any, Any, str, Any]:
            asked = read(body)
            return asked, *asked.encode(self.encoder)

        self.engine.check_room()
        body = await self.bodies.read(request, mime)
        try:
            ready = asyncio.get_running_loop().run_in_executor(self.threads, prepare)
            asked, prompt, key, how = await ready
        finally:
            self.bodies.release(body)
        reply = make_reply(asked, len(prompt))
        events = self._events(request, asked, prompt, key, how)
        first = await anext(events)  # what fails before there is a token has a status of its own
        if asked.stream:
            return StreamingResponse(_lines(reply, first, events), media_type=reply.media_type)
        reply.add(first)
        async for event in events:
            reply.add(event)
        return _sent(reply.body)

    async def _events(
        self, request: "Request", asked: Any, prompt: Any, key: str, how: Any
    ) -> AsyncIterator[Event]:
        """Yield what the engine reports of an answer, and then of the sound of it if wanted."""
        ends, event = time.monotonic() + asked.seconds, None
        async for event in follow(self.engine, request, prompt, key, how, asked.seconds):
            yield event
        if not asked.voice or not isinstance(event, Ended):
            return
        text, drawn = without_thinking(event.completion.text), asked.generation
        try:
            prompt, key, how = await asyncio.get_running_loop().run_in_executor(
                self.threads, self.encoder.to_say, asked.prompt.messages, text,
                drawn.temperature, drawn.seed, asked.prompt.place,
            )  # fmt: skip
        except SpeechError:  # there is no word in it: silence
            yield Ended(0, Utterance(torch.zeros(0, 0), "stop"))
            return
        seconds = ends - time.monotonic()
        async for event in follow(self.engine, request, prompt, key, how, seconds, ahead=True):
            yield event

    def _chat_reply(self, asked: Asked, prompt_tokens: int) -> Reply:
        if not asked.voice:
            return self._reply(True, asked, prompt_tokens)
        return SpokenReply(self.name, True, 1, prompt_tokens, None, asked.usage, form=asked.voice)

    def _reply(self, chat: bool, asked: Asked, prompt_tokens: int) -> Reply:
        tokenizer = self.engine.processor.tokenizer if asked.logprobs else None
        return Reply(self.name, chat, asked.generation.n, prompt_tokens, tokenizer, asked.usage)


async def follow(
    engine: Engine, request: "Request", prompt: Any, key: str, how: Any, seconds: float,
    ahead: bool = False,
) -> AsyncIterator[Event]:  # fmt: skip
    """Ask the engine, and yield what it reports until all is whole; let go when the client does.

    Raises:
        EngineError: there is no answer.
    """
    loop, queue = asyncio.get_running_loop(), asyncio.Queue()

    def report(event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop may have been closed with the server
            loop.call_soon_threadsafe(queue.put_nowait, event)

    ticket = engine.submit(prompt, key, how, report, seconds, ahead)

    async def let_go() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        engine.cancel(ticket)
        queue.put_nowait(Failed(GoneError("the client went away")))

    watch = asyncio.create_task(let_go())
    try:
        ended: set[int] = set()
        while len(ended) < ticket.answers:
            event = await queue.get()
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Ended):
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
    except (EngineError, RequestError) as error:  # too late for a status
        if reply.media_type != EVENTS:
            raise  # the client sees that the sound is cut
        status = error.status if isinstance(error, RequestError) else _status(error)
        yield event_line(error_body(str(error), status))


def _status(error: Exception) -> int:
    return STATUS.get(type(error), 500)


def _sent(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> "Response":
    from starlette.responses import Response

    if isinstance(body, str):
        return Response(body.encode(errors="replace"), status, headers, "text/plain")
    if isinstance(body, bytes):
        return Response(body, status, headers, "audio/wav")
    # in ASCII: a text may hold halves of surrogate pairs
    return Response(json.dumps(body), status, headers, "application/json")


async def _refused(request: Any, error: Any) -> "Response":
    headers = {"Retry-After": "1"} if error.status == 429 else None
    return _sent(error.body, error.status, headers)


async def _failed(request: Any, error: Any) -> "Response":
    again = isinstance(error, FullError | DeadError)
    headers = {"Retry-After": str(error.after)} if again else None
    return _sent(error_body(str(error), _status(error)), _status(error), headers)


async def _no_path(request: Any, error: Any) -> "Response":
    text = f"{request.method} {request.url.path[:200]}: {error.detail}"
    return _sent(error_body(text, error.status_code), error.status_code)


async def _broken(request: Any, error: Any) -> "Response":
    return _sent(error_body(f"a fault of the server: {type(error).__name__}", 500), 500)
