"""The same text model behind `transformers serve`: is ours slower?"""

import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from .running import streamed

MODEL = "tiny:llama-256x8"
LENGTH = 32  # tokens of every answer
CLIENTS = 16
ROUNDS = 3
SECONDS = 120  # in which a server must have begun


def run(count: int = 32, seed: int = 0) -> dict[str, Any]:
    """Let clients ask both servers `count` questions, in turns, on the CPU in float32.

    Transformers' server is asked as it starts by default and with its continuous batching.

    Returns:
        `ok`, how many answers to questions asked alone `differ` from transformers', and of each
        server the answers a second and the seconds to the first token, a client alone and p50 of
        all at once; medians of the rounds.
    """
    with tempfile.TemporaryDirectory() as name, ExitStack() as servers:
        text, ours = _models(Path(name))
        theirs = ["transformers", "serve", str(text), "--device", "cpu", "--dtype", "float32"]
        commands = {
            "ours": [sys.executable, "-m", "omni.serve.server", str(ours)],
            "transformers": theirs,
            "transformers, continuous": [*theirs, "--continuous-batching"],
        }
        urls = {who: (servers.enter_context(_server(command)), text if who != "ours" else ours)
                for who, command in commands.items()}  # fmt: skip
        questions = [f"Question {seed + n}: what now?" for n in range(count)]
        said = {who: [_ask(url, model, q)[0] for q in questions[:4]]
                for who, (url, model) in urls.items()}  # fmt: skip
        rounds: dict[str, list[tuple[float, float, float]]] = {who: [] for who in urls}
        for _ in range(ROUNDS):
            for who, (url, model) in urls.items():
                rounds[who].append(_round(url, model, questions))
    found = {who: dict(zip(("answers_per_second", "first_alone_s", "first_s"), _medians(each),
                           strict=True)) for who, each in rounds.items()}  # fmt: skip
    # half a character at the end is sent by us alone
    differ = sum(one.rstrip("\ufffd") != other.rstrip("\ufffd") for one, other in
                 zip(said["ours"], said["transformers"], strict=True))  # fmt: skip
    ratio = found["ours"]["answers_per_second"] / max(
        each["answers_per_second"] for who, each in found.items() if who != "ours"
    )
    return {"ok": not differ and ratio >= 1, "differ": differ, "ratio": round(ratio, 2),
            "servers": found, "clients": CLIENTS, "questions": count}  # fmt: skip


def _models(folder: Path) -> tuple[Path, Path]:
    """Write a text model, and ours of the same weights; every answer has LENGTH tokens."""
    from transformers import GenerationConfig

    from ...model.forward import OmniForConditionalGeneration, load_text_tokenizer
    from ...processing.processor import OmniProcessor
    from ...weights import resolve

    text, ours = folder / "text", folder / "ours"
    shutil.copytree(resolve(MODEL).folder, text)
    model: Any = OmniForConditionalGeneration.from_text(str(text))
    model.save_pretrained(ours)
    processor: Any = OmniProcessor(load_text_tokenizer(str(text)))
    processor.save_pretrained(ours)
    processor.tokenizer.chat_template = processor.chat_template  # theirs has no default
    processor.tokenizer.save_pretrained(text)
    for each in (text, ours):
        settings = GenerationConfig.from_pretrained(each)
        settings.min_new_tokens = LENGTH
        settings.save_pretrained(each)
    return text, ours


@contextmanager
def _server(command: list[str]) -> Iterator[str]:
    """Run a server of one command at a free port; yield its URL.

    Raises:
        RuntimeError: it does not begin; with what it printed.
    """
    import httpx

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=said, stderr=said)
        try:
            url, end = f"http://127.0.0.1:{port}", time.monotonic() + SECONDS
            while True:
                if process.poll() is not None or time.monotonic() > end:
                    said.seek(0)
                    raise RuntimeError(f"{' '.join(command)} did not begin:\n{said.read()[-2000:]}")
                try:
                    httpx.get(f"{url}/health").raise_for_status()
                    break
                except httpx.HTTPError:
                    time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            process.wait()


def _round(url: str, model: Path, questions: list[str]) -> tuple[float, float, float]:
    """Return answers a second, and seconds to the first token: of one alone, p50 of all."""
    alone = _ask(url, model, questions[0])[1]
    began = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as threads:
        firsts = [first for _, first in threads.map(lambda q: _ask(url, model, q), questions)]
    seconds = time.perf_counter() - began
    return len(questions) / seconds, alone, statistics.median(firsts)


def _ask(url: str, model: Path, question: str) -> tuple[str, float]:
    """Return an answer, and the seconds until it began."""
    return streamed(url, str(model) if model.name == "text" else model.name, {
        "messages": [{"role": "user", "content": question}], "max_tokens": LENGTH,
        "temperature": 0, "stream": True,
    })  # fmt: skip


def _medians(rounds: list[tuple[float, float, float]]) -> list[float]:
    return [round(statistics.median(each), 3) for each in zip(*rounds, strict=True)]
