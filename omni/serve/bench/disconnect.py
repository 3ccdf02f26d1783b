"""Clients that go away, and a worker that dies: what does it cost, and who is answered then?"""

import time
from typing import Any

from ..limits import RequestLimits
from .attacks import ask
from .running import Running, running, tiny_model

CHAT = "/v1/chat/completions"
LENGTH = 1000  # tokens of an answer that nobody waits for
WAIT = 30.0  # seconds in which a slot must be free


def run(count: int = 20, seed: int = 0) -> dict[str, Any]:
    """Begin `count` streams and leave each after its first chunk.

    Returns:
        `ok`, how many answers were `whole` before the client left, the most `tokens` that were
        written between the server's notice and the end of the work, the most `seconds` from
        the client's leaving to a free slot, and of a worker that was `killed` in mid-answer: the
        status of what it answered, of /health after that, and the seconds until it was well.
    """
    import httpx

    model, processor = tiny_model()
    model.generation_config.min_new_tokens = LENGTH
    body = ask({"type": "text", "text": f"Count, {seed}."}, stream=True) | {"max_tokens": LENGTH}
    seconds, tokens = [], []
    with running((model, processor), RequestLimits(max_new_tokens=LENGTH)) as server:
        steps: list[int] = []  # tokens after the notice, of one request
        cancel = server.engine.cancel

        def cancelling(ticket: Any) -> None:
            first = not ticket.gone
            cancel(ticket)
            if first:
                steps.clear()

        model.language_model.register_forward_pre_hook(lambda *given: steps.append(1))
        server.engine.cancel = cancelling
        for _ in range(count):
            url = f"{server.url}/v1/chat/completions"
            with httpx.stream("POST", url, json=body, timeout=WAIT) as found:
                found.raise_for_status()
                next(found.iter_lines())
                left = time.monotonic()
            while server.engine.running and time.monotonic() < left + WAIT:
                time.sleep(0.001)
            seconds.append(time.monotonic() - left)
            tokens.append(len(steps))
        whole = server.engine.metrics.registry.get_sample_value("omni_answer_seconds_count") or 0
        killed = _kill(server, model)
    well = killed["in_flight"] == killed["health"] == 503 and killed["after"] == 200
    ok = max(tokens) <= 1 and max(seconds) < WAIT and not whole and well
    return {"ok": ok, "whole": int(whole), "tokens": max(tokens),
            "seconds": round(max(seconds), 3), "clients": count, "killed": killed}  # fmt: skip


def _kill(server: Running, model: Any) -> dict[str, Any]:
    """Let the device fail in the middle of an answer, and ask again as the server says."""
    import httpx
    import torch

    steps: list[int] = []

    def fail(*given: Any) -> None:
        steps.append(1)
        if len(steps) == 5:
            raise torch.AcceleratorError("killed by the bench")

    hook = model.language_model.register_forward_pre_hook(fail)
    body = ask({"type": "text", "text": "Count."})
    with httpx.Client(base_url=server.url, timeout=WAIT) as client:
        found = client.post(CHAT, json=body | {"max_tokens": LENGTH})
        ended = time.monotonic()
        health = client.get("/health").status_code
        while client.get("/health").status_code != 200 and time.monotonic() < ended + WAIT:
            time.sleep(0.01)
        seconds = time.monotonic() - ended
        hook.remove()
        model.generation_config.min_new_tokens = 1
        after = client.post(CHAT, json=body | {"max_tokens": 4}).status_code
    return {"in_flight": found.status_code, "health": health, "after": after,
            "seconds": round(seconds, 3)}  # fmt: skip
