"""Seeded conversations with pictures and sounds, and a processor that needs no model for them."""

import io
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from omni.processing.messages import assistant, audio, image, user

from ..shards.sample import Sample
from ..shards.write import ShardSet

META = {"source": "bench", "license": "Apache-2.0", "schema": 1}
RATE = 16_000  # Hz of the sounds
MEDIA = ("image", "audio")


def picture(rng: np.random.Generator, size: tuple[int, int] = (64, 48)) -> bytes:
    """Return a jpg of (width, height) pixels that is about as smooth as a photograph."""
    coarse = rng.integers(0, 256, (max(2, size[1] // 16), max(2, size[0] // 16), 3), np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=85)


def sound(rng: np.random.Generator, seconds: float = 0.1) -> bytes:
    """Return a 16-bit wav at 16 kHz."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(rng.integers(-9000, 9000, round(seconds * RATE), np.int16).tobytes())
    return out.getvalue()


def samples(
    count: int,
    seed: int = 0,
    media: Sequence[str] = MEDIA,
    size: tuple[int, int] = (64, 48),
    seconds: float = 0.1,
    chars: tuple[int, int] = (20, 200),
) -> Iterator[Sample]:
    """Yield conversations; the same arguments give the same bytes.

    Args:
        count: of them.
        seed: of everything random.
        media: what each holds: image (img0.jpg), audio (aud0.wav), both, or neither.
        size: of pictures, (width, height) pixels.
        seconds: of sounds.
        chars: of each answer, from and to before.
    """
    rng = np.random.default_rng(seed)
    for n in range(count):
        parts = {}
        if "image" in media:
            parts["img0.jpg"] = picture(rng, size)
        if "audio" in media:
            parts["aud0.wav"] = sound(rng, seconds)
        shown = [image(name) if name.startswith("img") else audio(name) for name in parts]
        letters = rng.integers(97, 123, int(rng.integers(*chars)), np.uint8).tobytes()
        yield Sample([user(*shown, f"{n}?"), assistant(letters.decode())], parts, META.copy())


def write(folder: Path, count: int, seed: int = 0, shard_samples: int = 1000, **kind: Any) -> Path:
    """Write `samples(count, seed, **kind)` as a set of shards; return its folder."""
    with ShardSet(folder, shard_samples=shard_samples) as shards:
        for sample in samples(count, seed, **kind):
            shards.add(sample)
        shards.commit({})
    return folder


class Bare:
    """A processor without a model: a byte of text is a token, and so is a patch or a frame.

    A picture costs one token for 16 x 16 pixels, a sound one for 20 ms. Whatever was decoded
    goes into the tensors, so a digest of a batch vouches for all of it.
    """

    fingerprint = "bench"

    def __init__(self) -> None:
        self.modalities: dict[str, Any] = {}

    def text_length(self, messages: list[dict[str, Any]], facts: Any = None) -> int:
        return len(_text(messages))

    def media_lengths(self, kind: str, facts: Any) -> tuple[np.ndarray, np.ndarray]:
        # omni.media.decode brings every sound to 16 kHz; here all have that rate already
        sides = ("width", 16), ("height", 16)
        blocks = sides if kind == "image" else (("count", RATE // 50),)
        counts = [-(-facts[side].astype(np.int64) // block) for side, block in blocks]
        count = np.prod(counts, axis=0)
        return count, count

    def encode(self, messages: list[dict[str, Any]], **how: Any) -> Any:
        import torch

        from omni.media.decode import load_audio, load_image
        from omni.processing.processor import Encoded

        media: dict[str, list[dict[str, torch.Tensor]]] = {}
        tokens = 0
        for part in (part for message in messages for part in message["content"]):
            if part["type"] == "image":
                pixels = torch.from_numpy(np.array(load_image(part["image"])))
                media.setdefault("vision", []).append({"pixels": pixels})
                tokens += -(-pixels.shape[0] // 16) * -(-pixels.shape[1] // 16)
            elif part["type"] == "audio":
                heard = torch.from_numpy(np.array(load_audio(part["audio"])))
                media.setdefault("audio", []).append({"samples": heard})
                tokens += -(-len(heard) // (RATE // 50))
        ids = torch.tensor([0] * tokens + list(_text(messages)))
        return Encoded(ids, ids.clone(), media)

    def pack(self, encoded: list[Any]) -> dict[str, Any]:
        """Return `input_ids` and `labels` (1, T), and lists of `pixels` and `samples`."""
        import torch

        both: dict[str, Any] = {name: torch.cat([getattr(e, name) for e in encoded])[None]
                for name in ("input_ids", "labels")}  # fmt: skip
        for name, part in (("vision", "pixels"), ("audio", "samples")):
            both[part] = [item[part] for e in encoded for item in e.media.get(name, [])]
        return both


def _text(messages: list[dict[str, Any]]) -> bytes:
    parts = [part for message in messages for part in message["content"]]
    return "".join(part["text"] for part in parts if part["type"] == "text").encode()
