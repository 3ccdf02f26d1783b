"""A tiny model behind a server in threads of this process."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from ..engine import Engine
from ..limits import RequestLimits
from ..sources import Sources

VISION = {
    "encoder": {"kind": "timm", "architecture": "test_vit", "image_size": 48,
                "model_args": {"img_size": 48}},
    "projector": {"kind": "patch_concat_mlp"},
}  # fmt: skip
AUDIO = {
    "encoder": {"kind": "whisper", "model_config": {
        "d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 64,
        "num_mel_bins": 80, "max_source_positions": 1500}},
    "projector": {"kind": "frame_concat_mlp"},
}  # fmt: skip


class Running(NamedTuple):
    """A server that runs: where, and what is behind it."""

    host: str
    port: int
    engine: Engine

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


def tiny_model() -> Any:
    """Make a model that sees and hears, of random weights; returns (model, processor)."""
    import torch

    from ...model.forward import OmniForConditionalGeneration, load_text_tokenizer
    from ...processing.processor import OmniProcessor

    torch.manual_seed(0)
    model: Any = OmniForConditionalGeneration.from_text("tiny:llama")
    processor = OmniProcessor(load_text_tokenizer("tiny:llama"))
    model.attach("vision", VISION, processor)
    model.attach("audio", AUDIO, processor)
    rows, width = model.language_model.lm_head.weight.shape  # one of its own says more
    model.language_model.lm_head.weight = torch.nn.Parameter(torch.randn(rows, width))
    return model.eval(), processor


def streamed(url: str, model: str, body: dict[str, Any]) -> tuple[str, float]:
    """Ask a server of OpenAI's API for a stream; return its text, and seconds until that began."""
    import openai

    client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
    began, first, text = time.perf_counter(), 0.0, ""
    for chunk in client.chat.completions.create(model=model, **body):
        if new := chunk.choices[0].delta.content if chunk.choices else "":
            first = first or time.perf_counter() - began
            text += new
    return text, first


@contextmanager
def running(
    pair: Any, limits: RequestLimits = RequestLimits(),  # noqa: B008 - frozen
    sources: Sources = Sources(),  # noqa: B008 - frozen
) -> Iterator[Running]:  # fmt: skip
    """Serve (model, processor) at a free port until the block ends."""
    import uvicorn

    from ..app import make_app

    engine = Engine(*pair)
    app = make_app(engine, "tiny", limits, sources)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        try:
            host, port = bound.getsockname()
            yield Running(host, port, engine)
        finally:
            server.should_exit = True
            thread.join()
            engine.close()
