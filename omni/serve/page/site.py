"""The web site around a page: nothing of it comes from elsewhere."""

import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...generation.settings import Generation
from ...load import load
from ..limits import RequestLimits
from ..start import address
from .examples import heldout

if TYPE_CHECKING:
    import gradio as gr
    from fastapi import FastAPI

# of a page; a browser refuses all else, whatever the library or an answer would load
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; worker-src 'self' blob:; frame-ancestors 'none'"
)
SETTINGS = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
FONTS = ("system-ui", "sans-serif")
MONO = ("ui-monospace", "monospace")
CSS = Path(__file__).with_name("page.css")
ABANDONED = 3600  # seconds after which the files of a visitor who left are removed


@contextmanager
def room() -> Iterator[Path]:
    """Yield a folder for what visitors upload and hear, until the page closes."""
    with tempfile.TemporaryDirectory(prefix="omni-chat-") as folder:
        before = {name: os.environ.get(name) for name in (*SETTINGS, "GRADIO_TEMP_DIR")}
        os.environ |= {**SETTINGS, "GRADIO_TEMP_DIR": folder}
        try:
            yield Path(folder)
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


def make_site(page: "gr.Blocks", max_bytes: int) -> "FastAPI":
    """Put a page at the root of a site.

    Args:
        page: what visitors see.
        max_bytes: of a file that is uploaded.
    """
    import gradio as gr
    from fastapi import FastAPI
    from gradio import processing_utils

    async def refuse(url: str, cache_dir: str) -> str:
        raise gr.Error("files are uploaded here, and never fetched from elsewhere")

    # a visitor's request may name a URL in the place of a file
    processing_utils.async_ssrf_protected_download = refuse
    page.delete_cache = (ABANDONED, ABANDONED)
    site = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    theme = gr.themes.Default(font=FONTS, font_mono=MONO)
    gr.mount_gradio_app(
        site, page.queue(default_concurrency_limit=None, api_open=False), "/", theme=theme,
        css_paths=CSS, footer_links=[], run_history=False, ssr_mode=False, pwa=False,
        enable_monitoring=False, mcp_server=False, max_file_size=max_bytes, show_error=True,
    )  # fmt: skip
    site.add_middleware(_Policy)
    return site


def open_page(
    checkpoints: Sequence[Path], bound: socket.socket, generation: Generation,
    data: Sequence[Path] = (), votes: Path | None = None, blind: bool = False,
) -> None:  # fmt: skip
    """Load one checkpoint, or two to compare, and answer browsers until interrupted.

    Args:
        checkpoints: folders that stages saved.
        bound: where browsers ask.
        generation: what the settings begin with.
        data: folders of shards, whose held-out part has the examples.
        votes: the folder of votes; needed for two.
        blind: hide who is who until the vote.

    Raises:
        CheckpointError, ExampleError: see `load` and `heldout`.
    """
    import torch

    from ..engine import Engine

    limits = RequestLimits(max_new_tokens=max(RequestLimits.max_new_tokens, generation.longest))
    engines = []
    with room() as folder:
        from .answerer import Answerer
        from .chat import Chat
        from .compare import Compare
        from .votes import Votes

        for checkpoint in checkpoints:
            model, processor = load(checkpoint)
            if torch.cuda.is_available():
                model.to("cuda")  # type: ignore[arg-type]
            engines.append(Engine(model, processor))
        try:
            named = zip(names_of(checkpoints), engines, strict=True)
            answerers = [Answerer(name, engine, limits) for name, engine in named]
            kinds = set.intersection(*(one.kinds for one in answerers))
            examples = heldout(data, kinds, folder / "examples")
            if votes:
                pair = answerers[0], answerers[1]
                page = Compare(pair, generation, examples, Votes(votes), blind).page
            else:
                page = Chat(answerers[0], generation, examples).page
            _serve(make_site(page, limits.max_bytes), bound)
        finally:
            for engine in engines:
                engine.close()


def names_of(checkpoints: Sequence[Path]) -> list[str]:
    """Name checkpoints by their folders, with as many of those above as tell them apart."""
    paths = [path.resolve() for path in checkpoints]
    depths = range(1, max(len(path.parts) for path in paths) + 1)
    named = ([Path(*path.parts[-depth:]).as_posix() for path in paths] for depth in depths)
    return next((names for names in named if len({*names}) == len(names)), [])


def _serve(site: "FastAPI", bound: socket.socket) -> None:
    import uvicorn

    bound.listen(128)
    print(f"the page is at {address(bound)}", flush=True)
    settings = uvicorn.Config(site, log_level="warning", timeout_graceful_shutdown=2)
    uvicorn.Server(settings).run(sockets=[bound])


class _Policy:
    """Adds the headers that keep a browser to this site."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def add(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"], (b"content-security-policy", POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"), (b"x-content-type-options", b"nosniff"),
                ]  # fmt: skip
            await send(message)

        await self.app(scope, receive, add)
