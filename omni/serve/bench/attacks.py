"""Requests that mean no good, each of which must be refused with a reason."""

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import numpy as np


class Request(NamedTuple):
    """What is sent to another path than that of chats."""

    path: str
    body: bytes
    content_type: str = "application/json"


Body = bytes | dict[str, Any] | Request
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


def _modalities(rng: Random) -> Body:
    sound = {"voice": "default", "format": "wav"}
    wrong = rng.choice((
        {"modalities": ["audio"]}, {"modalities": ["text", "audio"], "audio": sound},
        {"audio": sound}, {"modalities": "audio"}, {"modalities": ["text", "smell"]},
    ))  # fmt: skip
    return ask({"type": "text", "text": "x"}, **wrong)


def _completion(rng: Random) -> Body:
    prompt = rng.choice(
        (None, "", [1, 2], ["x", "y"], {"text": "x"}, "x" * 200_000, "\ud800", True)
    )
    return Request("/v1/completions", json.dumps({"prompt": prompt, "max_tokens": 4}).encode())


def _speech(rng: Random) -> Body:
    wrong = rng.choice((
        {"input": ""}, {"input": None}, {"input": "x" * 200_000}, {"voice": "somebody"},
        {"speed": 3}, {"response_format": "mp3"}, {"temperature": -1}, {"model": "other"},
        {"stream_format": "sse"}, {},  # the model has no voice
    ))  # fmt: skip
    return Request("/v1/audio/speech", json.dumps({"input": "Hello.", **wrong}).encode())


def _form(values: dict[str, str | bytes], boundary: str = "--of-parts") -> Request:
    """Make a request for a transcript; bytes go as a file."""
    body = b""
    for name, value in values.items():
        data, file = (
            (value, '; filename="a.wav"') if isinstance(value, bytes) else (value.encode(), "")
        )
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        body += head.encode() + data + b"\r\n"
    kind = f"multipart/form-data; boundary={boundary}"
    return Request("/v1/audio/transcriptions", body + f"--{boundary}--\r\n".encode(), kind)


def _tone() -> bytes:
    return _wav(np.sin(np.arange(1600, dtype=np.float32)))


def _form_value(rng: Random) -> Body:
    name, value = rng.choice((
        ("response_format", "srt"), ("language", "what it is"), ("prompt", "x" * 200_000),
        ("temperature", "NaN"), ("temperature", "warm"), ("n", "2"), ("stream", "perhaps"),
        ("max_tokens", "-1"), ("model", "other"), ("top_k", "3"), ("file", "a text"),
    ))  # fmt: skip
    return _form({"file": _tone()} | {name: value})


def _form_sound(rng: Random) -> Body:
    silence = np.full(1600, np.nan, np.float32)
    file = rng.choice((b"", rng.randbytes(500), _tone()[: rng.randrange(1, 40)], _wav(silence),
                       grey(20)))  # fmt: skip
    return _form({"file": file})


def _form_broken(rng: Random) -> Body:
    path, body, kind = _form({"file": _tone(), "language": "en"})
    twice = body.replace(b'"language"', b'"file"')
    many = _form({f"field {n}": "x" for n in range(rng.randrange(40, 400))}).body
    coded = body.replace(b"\r\n\r\nen", b"\r\n\r\n\xff\xfe")
    body, kind = rng.choice((
        (body[: rng.randrange(len(body) - 5)], kind), (twice, kind), (many, kind), (coded, kind),
        (body, "multipart/form-data"), (body, kind + "-other"), (body, "application/json"),
        (b"", kind), (rng.randbytes(1000), kind),
    ))  # fmt: skip
    return Request(path, body, kind)


COMMON: tuple[Attack, ...] = (
    _not_finite, _cut, _noise, _bomb, _thin, _base64, _null, _parts, _unknown, _field, _value,
    _private, _path, _broken, _surrogate, _modalities, _completion, _speech, _form_value,
    _form_sound, _form_broken,
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
