"""omni-serve: a checkpoint behind an OpenAI-compatible API."""

import importlib
import json
import socket
from pathlib import Path
from typing import Annotated

import typer

from ..load import CheckpointError, check_checkpoint, load
from .bench import BENCHES
from .command import RunByDefault, announce, refused
from .limits import RequestLimits
from .sources import Sources
from .start import StartError, address, bind, check_extra
from .voice import read_voices

app = typer.Typer(
    cls=RunByDefault, no_args_is_help=True, add_completion=False, rich_markup_mode="markdown",
    help="Serve a checkpoint to OpenAI's clients: `omni-serve runs/quickstart/sft`.",
)  # fmt: skip
NEEDED = ("fastapi", "uvicorn", "prometheus_client", "python_multipart")
LIMITS = RequestLimits()


class ServeError(RuntimeError):
    """Something that the user can mend; one line says what."""


@app.command("run")
def serve(
    checkpoint: Annotated[Path, typer.Argument(help="folder that a stage saved")],
    host: Annotated[str, typer.Option(help="address to listen at")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one")] = 8000,
    name: Annotated[str, typer.Option(help="of the model; the folder's without it")] = "",
    api_key: Annotated[
        str, typer.Option(envvar="OMNI_API_KEY", help="that every request must show")
    ] = "",
    allow_hosts: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="fetch media from it; repeatable"),
    ] = None,
    allow_dirs: Annotated[
        list[Path] | None,
        typer.Option("--allow-dir", metavar="FOLDER", help="read media below it; repeatable"),
    ] = None,
    waiting: Annotated[int, typer.Option(min=1, help="requests that may wait")] = 64,
    token_budget: Annotated[int, typer.Option(min=1, help="tokens of a batch")] = 16_384,
    max_batch: Annotated[int, typer.Option(min=1, help="answers written at once")] = 16,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="most of an answer, and what it is without a wish")
    ] = LIMITS.max_new_tokens,
    deadline: Annotated[
        float, typer.Option(min=0.1, help="seconds for an answer, waiting included")
    ] = LIMITS.deadline,
    max_pixels: Annotated[int, typer.Option(min=1, help="of an image")] = LIMITS.max_pixels,
    max_seconds: Annotated[
        float, typer.Option(min=0.1, help="of a sound or video")
    ] = LIMITS.max_seconds,
    voices: Annotated[
        Path | None,
        typer.Option(help="folder of clips, one of each voice that can be asked to read"),
    ] = None,
) -> None:
    """Answer OpenAI's clients: chat with pictures, sounds and video, plain completions, streams.

    Example, after a quickstart:

        omni-serve runs/quickstart/sft

        curl localhost:8000/v1/chat/completions -H 'Content-Type: application/json'
        -d '{"messages": [{"role": "user", "content": "Hi!"}]}'
    """
    try:
        known = read_voices(voices) if voices else {}
    except (ValueError, OSError) as error:
        raise refused(f"--voices: {error}") from error
    limits = RequestLimits(max_new_tokens=max_new_tokens, deadline=deadline, voices=known,
                           max_pixels=max_pixels, max_seconds=max_seconds)  # fmt: skip
    sources = Sources(frozenset(allow_hosts or ()), tuple(allow_dirs or ()), limits.max_bytes)
    try:
        check_extra("serve", NEEDED)
        for folder in sources.folders:
            if not folder.is_dir():
                raise ServeError(f"--allow-dir {folder}: no such folder")
        check_checkpoint(checkpoint)
        # a port that is taken should not cost the time to load a model
        with bind(host, port) as bound:
            announce(f"loading {checkpoint}", aside=True)
            options = {"waiting": waiting, "token_budget": token_budget, "max_batch": max_batch}
            _run(checkpoint, bound, name, limits, sources, api_key, options)
    except (ServeError, StartError, CheckpointError) as error:
        raise refused(error) from error


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="which; without one they are listed")] = "",
    count: Annotated[int, typer.Option(min=0, help="requests; 0: as many as it is made for")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="another one makes other requests")] = 0,
) -> None:
    """Measure on a tiny model what the server promises; without NAME, list the benches.

    The last line is json, and the exit status says whether the promise holds.

    Example: `omni-serve bench hostile`
    """
    if not name:
        for known, what in BENCHES.items():
            print(f"{known:12} {what}")
        return
    if name not in BENCHES:
        raise refused(f"no bench {name}; there are {', '.join(BENCHES)}")
    try:
        check_extra("serve", NEEDED)
    except StartError as error:
        raise refused(error) from error
    run = importlib.import_module(f"omni.serve.bench.{name}").run
    found = run(**({"count": count} if count else {}), seed=seed)
    print(json.dumps(found), flush=True)
    raise typer.Exit(0 if found["ok"] else 1)


def _run(
    checkpoint: Path, bound: socket.socket, name: str, limits: RequestLimits, sources: Sources,
    key: str, engine_options: dict[str, int],
) -> None:  # fmt: skip
    import torch
    import uvicorn

    from .app import make_app
    from .engine import Engine

    model, processor = load(checkpoint)
    if torch.cuda.is_available():
        model.to("cuda")  # type: ignore[arg-type]
    engine = Engine(model, processor, **engine_options)
    name = name or checkpoint.resolve().name
    settings = uvicorn.Config(
        make_app(engine, name, limits, sources, key), log_level="warning", lifespan="off",
        timeout_graceful_shutdown=5,
    )  # fmt: skip
    bound.listen(128)
    print(f"listening at {address(bound)}/v1 (model {name})", flush=True)
    try:
        uvicorn.Server(settings).run(sockets=[bound])
    finally:
        engine.close()


if __name__ == "__main__":
    app()
