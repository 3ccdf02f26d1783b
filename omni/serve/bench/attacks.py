"""Requests that mean no good, each of which must be refused with a reason."""

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

Body = bytes | dict[str, Any]
Attack = Callable[[Random], Body]
PART = {"image": "image_url", "audio": "audio_url", "video": "video_url"}


def ask(*parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Make a request of these parts."""
    return {"messages": [{"role": "user", "content": [*parts]}], "max_tokens": 4, **fields}


def linked(kind: str, url: str) -> dict[str, Any]:
    """Make a request that shows what is behind a URL."""
    return ask({"type": PART[kind], PART[kind]: {"url": url}})


def shown(kind: str, data: bytes) -> dict[str, Any]:
    """Make a request that holds a medium."""
    return linked(kind, "data:;base64," + base64.b64encode(data).decode())


def png(width: int, height: int, rows: bytes) -> bytes:
    """Make a picture in grey of the header and compressed rows given."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
            + chunk(b"IEND", b""))  # fmt: skip


def grey(side: int) -> bytes:
    """Make a good picture of `side` times `side` pixels, each row darker than the one above."""
    return png(side, side, b"".join(b"\0" + bytes([255 - row]) * side for row in range(side)))


def _wav(samples: np.ndarray, rate: int = 16_000) -> bytes:
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="WAV", subtype="FLOAT")
    return out.getvalue()


def _not_finite(rng: Random) -> Body:
    wave = np.zeros(1600, np.float32)
    wave[rng.randrange(1600)] = rng.choice((np.nan, np.inf, -np.inf))
    return shown("audio", _wav(wave))


def _cut(rng: Random) -> Body:
    data = grey(40)
    return shown("image", data[: rng.randrange(1, len(data) - 20)])


def _noise(rng: Random) -> Body:
    return shown(rng.choice([*PART]), rng.randbytes(rng.randrange(1, 2000)))


def _bomb(rng: Random) -> Body:
    side = rng.randrange(5_000, 60_000)
    return shown("image", png(side, side, bytes(1 << 20)))


def _thin(rng: Random) -> Body:
    return shown("image", png(1, 5_000, bytes(10_000)))


def _long(rng: Random) -> Body:
    return shown("audio", _wav(np.zeros(4_000 * rng.randrange(310, 400), np.float32), 4_000))


def _base64(rng: Random) -> Body:
    good = base64.b64encode(rng.randbytes(90)).decode()
    at = rng.randrange(len(good))
    return linked("image", "data:image/png;base64," + good[:at] + rng.choice("@é =\n") + good[at:])


def _null(rng: Random) -> Body:
    body = ask({"type": "text", "text": "x"})
    message = body["messages"][0]
    part = message["content"][0]
    spot, key = rng.choice([(body, "messages"), (message, "role"), (message, "content"),
                            (part, "type"), (part, "text")])  # fmt: skip
    spot[key] = rng.choice((None, [[]], {"a": {}}, -1, 1e308, False))
    return body


def _messages(rng: Random) -> Body:
    return {"messages": [{"role": "user", "content": "x"}] * 10_000}


def _parts(rng: Random) -> Body:
    return ask(*[{"type": "text", "text": "x"}] * rng.randrange(65, 500))


def _unknown(rng: Random) -> Body:
    name = rng.choice(("file", "image", "tool_use", "", "text\0", "image_embeds"))
    return ask({"type": name, name: {}})


def _field(rng: Random) -> Body:
    name = rng.choice(("top_k", "tools", "messages ", "__class__", "response_format", "logit_bias"))
    return ask({"type": "text", "text": "x"}, **{name: [{"type": "function"}]})


def _value(rng: Random) -> Body:
    name = rng.choice(("n", "max_tokens", "top_p", "seed", "deadline"))
    return ask({"type": "text", "text": "x"}, **{name: rng.choice((-1, 1 << 70, "1", [1], True))})


def _private(rng: Random) -> Body:
    host = rng.choice(("127.0.0.1", "localhost", "169.254.169.254", "[::1]", "10.0.0.1", "0",
                       "2130706433", "user@127.0.0.1", "example.com"))  # fmt: skip
    return linked(rng.choice([*PART]), f"http://{host}/latest/meta-data")


def _path(rng: Random) -> Body:
    path = rng.choice(("/etc/passwd", "/../../etc/passwd", "/%2e%2e/etc/passwd", "//x/etc/passwd",
                       "/dev/zero", "/proc/self/environ"))  # fmt: skip
    return linked(rng.choice([*PART]), rng.choice(("file://", "FILE://", "")) + path)


def _broken(rng: Random) -> Body:
    text = json.dumps(ask({"type": "text", "text": "x" * 50})).encode()
    nan = text.replace(b'"max_tokens": 4', b'"temperature": NaN')
    deep = b'{"messages": ' + b"[" * 200_000
    return rng.choice((text[: rng.randrange(len(text))], rng.randbytes(100), nan, deep))


def _huge(rng: Random) -> Body:
    return b" " * (100 << 20)


def _surrogate(rng: Random) -> Body:
    return ask({"type": "text", "text": "\ud800" * rng.randrange(1, 9)})


COMMON: tuple[Attack, ...] = (
    _not_finite, _cut, _noise, _bomb, _thin, _base64, _null, _parts, _unknown, _field, _value,
    _private, _path, _broken, _surrogate,
)  # fmt: skip
LARGE: tuple[Attack, ...] = (_messages, _long, _huge)  # one in a hundred


def attacks(count: int, seed: int) -> list[tuple[str, Callable[[], Body]]]:
    """Return requests as (name, what makes it): the same ones for the same seed."""
    rng = Random(seed)
    found = []
    for number in range(count):
        large = number % 100 < len(LARGE)
        attack = LARGE[number % 100] if large else COMMON[number % len(COMMON)]
        one = Random(rng.random())
        found.append((attack.__name__[1:], lambda attack=attack, one=one: attack(one)))
    return found
