"""Clients that go away: how many tokens are still written for them?"""

import time
from typing import Any

from ..limits import RequestLimits
from .attacks import ask
from .running import running, tiny_model

LENGTH = 1000  # tokens of an answer that nobody waits for
WAIT = 30.0  # seconds in which a slot must be free


def run(count: int = 20, seed: int = 0) -> dict[str, Any]:
    """Begin `count` streams and leave each after its first chunk.

    Returns:
        `ok`, how many answers were `whole` before the client left, the most `tokens` that were
        written between the server's notice and the end of the work, and the most `seconds` from
        the client's leaving to a free slot.
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
    ok = max(tokens) <= 1 and max(seconds) < WAIT and not whole
    return {"ok": ok, "whole": int(whole), "tokens": max(tokens),
            "seconds": round(max(seconds), 3), "clients": count}  # fmt: skip
