"""Hostile requests beside good ones: are all refused, and do the good ones notice?"""

import base64
import json
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ...generation.answer import answer
from ...generation.settings import Generation
from ...processing.messages import image, user
from ..limits import RequestLimits
from ..sources import Sources
from .attacks import Request, ask, attacks, grey
from .running import Running, running, tiny_model

CHAT = "/v1/chat/completions"
LIMITS = RequestLimits(body_seconds=2.0)
CLIENTS, NEIGHBOURS = 6, 2
SLOW = 8  # bodies that never end
HANG = 60.0  # seconds after which a request counts as hanging


def run(count: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Send `count` attacks while neighbours ask questions whose answers are known.

    Returns:
        `ok`, and how many were `wrong` (no 4xx with a reason), `crashed` or hung, and how many
        answers of neighbours there were and differed.
    """
    import httpx

    pair = tiny_model()
    good = _good(pair)
    hosts = frozenset(("127.0.0.1", "localhost", "::1", "10.0.0.1", "0", "2130706433"))
    with running(pair, LIMITS, Sources(hosts=hosts)) as server:
        done, found = threading.Event(), Counter()
        with ThreadPoolExecutor(CLIENTS + NEIGHBOURS + 1) as threads:
            neighbours = [threads.submit(_ask_on, server, good, done) for _ in range(NEIGHBOURS)]
            slow = threads.submit(_slow, server)
            sent = [threads.submit(_attack, server, name, make)
                    for name, make in attacks(count, seed)]  # fmt: skip
            for future in sent:
                found[future.result()] += 1
            found.update(slow.result())
            done.set()
            answers = [same for neighbour in neighbours for same in neighbour.result()]
        healthy = httpx.get(f"{server.url}/health").json()["ok"]
    refused = found.pop("", 0)
    ok = healthy and not found and all(answers) and len(answers) >= NEIGHBOURS
    return {"ok": ok, "refused": refused, "wrong": dict(found), "healthy": healthy,
            "neighbours": len(answers), "differ": answers.count(False)}  # fmt: skip


def _good(pair: Any) -> list[tuple[dict[str, Any], str]]:
    """Return requests and what the model alone answers."""
    model, processor = pair
    picture = grey(40)
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    asked = [ask({"type": "text", "text": "Two and two?"}),
             ask({"type": "image_url", "image_url": {"url": url}},
                 {"type": "text", "text": "What?"})]  # fmt: skip
    ours = [[user("Two and two?")], [user(image(picture), "What?")]]
    return [(body, answer(model, processor, [talk], Generation(max_new_tokens=4))[0])
            for body, talk in zip(asked, ours, strict=True)]  # fmt: skip


def _ask_on(
    server: Running, good: list[tuple[dict[str, Any], str]], done: threading.Event
) -> list[bool]:
    import httpx

    same = []
    with httpx.Client(base_url=server.url, timeout=HANG) as client:
        while not done.is_set() or not same:
            for body, wanted in good:
                answered = client.post(CHAT, json=body)
                while answered.status_code == 429:
                    time.sleep(0.1)
                    answered = client.post(CHAT, json=body)
                text = answered.json().get("choices", [{"message": {"content": None}}])
                same.append(text[0]["message"]["content"] == wanted)
    return same


def _attack(server: Running, name: str, make: Any) -> str:
    """Return "" for a 4xx with a reason, or what came instead."""
    import httpx

    body = make()
    if not isinstance(body, Request):
        body = Request(CHAT, body if isinstance(body, bytes) else json.dumps(body).encode())
    headers = {"Content-Type": body.content_type}
    try:
        found = httpx.post(server.url + body.path, content=body.body, headers=headers, timeout=HANG)
        reason = found.json()["error"]["message"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return f"{name}: {type(error).__name__}"
    return "" if 400 <= found.status_code < 499 and reason else f"{name}: {found.status_code}"


def _slow(server: Running) -> list[str]:
    """Begin bodies and never end them; return as `_attack` does."""
    lines = (f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
             "Content-Type: application/json\r\n\r\n{")  # fmt: skip
    found = []
    slow = [socket.create_connection((server.host, server.port), HANG) for _ in range(SLOW)]
    for one in slow:
        one.sendall(lines.encode())
    for one in slow:
        with one:
            found.append("" if b" 408 " in one.recv(4096)[:20] else "slow: no 408")
    return found
