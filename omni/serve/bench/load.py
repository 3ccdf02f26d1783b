"""Many clients at once: the same answers as one by one, and sooner."""

import base64
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ...generation.answer import answer
from ...generation.settings import Generation
from ...processing.messages import image, user
from .attacks import ask, grey
from .running import Running, running, streamed, tiny_model

LENGTH = 32  # tokens of every answer
LATE, LONG, AT_ONCE = 5, 128, 4  # who comes late; tokens and number of the answers before them
CLIENTS = (1, 4, 16)  # for whom the first token is timed
FASTER = 2.0  # than one by one, at least


def run(count: int = 64, seed: int = 0) -> dict[str, Any]:
    """Ask `count` questions one by one, and all at once, of words and of pictures in turn.

    Returns:
        `ok`, how many answers `differ` from the model's alone, `faster`, the throughput of all at
        once over that of one by one, the seconds to the first token of each number of clients as
        [p50, p99], those of who comes `late`, while long answers are being written, and the
        process's peak memory in MB.
    """
    model, processor = tiny_model()
    model.generation_config.min_new_tokens = LENGTH
    asked = [_question(number + seed) for number in range(count)]
    wanted = [answer(model, processor, [talk], Generation(max_new_tokens=LENGTH))[0]
              for _, talk in asked]  # fmt: skip
    with running((model, processor)) as server:
        _ask(server, asked[0][0])  # what is imported late is not timed
        began = time.perf_counter()
        alone = [_ask(server, body)[0] for body, _ in asked]
        middle = time.perf_counter()
        with ThreadPoolExecutor(count) as threads:
            together = [*threads.map(lambda one: _ask(server, one[0])[0], asked)]
        ended = time.perf_counter()
        firsts = {clients: _first(server, [body for body, _ in asked], clients)
                  for clients in CLIENTS}  # fmt: skip
        late = _late(server, [body for body, _ in asked])
    differ = sum(text != right for found in (alone, together)
                 for text, right in zip(found, wanted, strict=True))  # fmt: skip
    faster = (middle - began) / (ended - middle)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return {"ok": not differ and faster >= FASTER, "differ": differ, "faster": round(faster, 2),
            "first_token_s": firsts, "late_s": late, "peak_mb": peak,
            "questions": count}  # fmt: skip


def _question(number: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a request and the same in our words."""
    text, parts, ours = f"Question {number}: what now?", [], []
    if number % 2:
        picture = grey(20 + number % 40)
        url = "data:image/png;base64," + base64.b64encode(picture).decode()
        parts, ours = [{"type": "image_url", "image_url": {"url": url}}], [image(picture)]
    body = ask(*parts, {"type": "text", "text": text}, stream=True) | {"max_tokens": LENGTH}
    return body, [user(*ours, text)]


def _ask(server: Running, body: dict[str, Any]) -> tuple[str, float]:
    return streamed(server.url, "tiny", body)


def _first(server: Running, bodies: list[dict[str, Any]], clients: int) -> list[float]:
    with ThreadPoolExecutor(clients) as threads:
        return _quantiles(
            [first for _, first in threads.map(lambda one: _ask(server, one), bodies)]
        )


def _late(server: Running, bodies: list[dict[str, Any]]) -> list[float]:
    """Ask one question each time that other answers, long ones, have begun."""
    late = []
    with ThreadPoolExecutor(len(bodies)) as threads:
        for number in range(LATE):
            long = [body | {"max_tokens": LONG} for body in bodies[:AT_ONCE]]
            before = [threads.submit(_ask, server, body) for body in long]
            while not (server.engine.running or all(one.done() for one in before)):
                time.sleep(0.001)
            late.append(_ask(server, bodies[number % len(bodies)])[1])
            for one in before:
                one.result()
    return _quantiles(late)


def _quantiles(seconds: list[float]) -> list[float]:
    """Return [p50, p99]."""
    found = sorted(seconds)
    return [round(found[int(part * (len(found) - 1))], 3) for part in (0.5, 0.99)]
