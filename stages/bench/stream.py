"""Speech as it comes beside speech made at once: the same sound, how soon, and how fast."""

import statistics
import time
from pathlib import Path
from typing import Any

from data_shards.bench.result import Result

CHUNKS = (1, 3, 10)  # frames of codes, 80 ms each
CLOSE = 1e-5
BOOKS = [64] * 8
SMALL = {"flow": {"hidden": 32, "layers": 1, "middle": 1}, "vocoder": {"hidden": 32, "layers": 1}}
LARGE = {"flow": {"hidden": 128, "layers": 2, "middle": 2}, "vocoder": {"hidden": 128, "layers": 4}}


def run(folder: Path, small: bool = False, stream: Any = None) -> Result:
    """Synthesise random codes in chunks and at once, by nets of the shapes of `speech_tiny`.

    Args:
        folder: unused.
        small: smaller nets, and a second of sound instead of four.
        stream: makes a stream of a voice; another one, to see it fail.
    """
    import torch

    from omni.generation.sound import Stream, Voice
    from omni.heads.mel import RATE, SAMPLES_PER_CODE

    voice = Voice(_model(SMALL if small else LARGE))
    frames = 13 if small else 50
    chance = torch.Generator().manual_seed(0)
    codes = torch.randint(BOOKS[0], (frames, len(BOOKS)), generator=chance)
    seconds = frames * SAMPLES_PER_CODE / RATE
    voice.wave(codes[:10])  # warm
    begin = time.perf_counter()
    whole = voice.wave(codes)
    rows = [{"frames in a chunk": "all", "off by": 0.0, "first sound ms": None,
             "real-time factor": round((time.perf_counter() - begin) / seconds, 3)}]  # fmt: skip
    for chunk in CHUNKS:
        made, first, taken = _timed((stream or Stream)(voice), codes.split(chunk))
        off = float((made - whole).abs().max()) if len(made) == len(whole) else float("inf")
        rows.append({"frames in a chunk": chunk, "off by": float(f"{off:.1e}"),
                     "first sound ms": round(1000 * first, 1),
                     "real-time factor": round(taken / seconds, 3)})  # fmt: skip
    streamed = rows[1:]
    figures = {
        "off_by": max(row["off by"] for row in streamed),
        "first_ms": {str(row["frames in a chunk"]): row["first sound ms"] for row in streamed},
        "rtf": statistics.median(row["real-time factor"] for row in streamed),
        "rtf_at_once": rows[0]["real-time factor"],
    }
    return Result(figures["off_by"] <= CLOSE < float(whole.abs().max()), figures, rows)


def _timed(stream: Any, chunks: Any) -> tuple[Any, float, float]:
    """Return the sound, the seconds to its first samples since the first chunk, and all seconds."""
    import torch

    begin, first, parts = time.perf_counter(), None, []
    for chunk in chunks:
        parts.append(stream.push(chunk))
        if first is None and len(parts[-1]):
            first = time.perf_counter() - begin
    parts.append(stream.rest())
    return torch.cat(parts), first or 0.0, time.perf_counter() - begin


def _model(heads: dict[str, dict[str, int]]) -> Any:
    """Return a model with a codec, a flow and a vocoder of random weights."""
    import torch

    from omni import OmniForConditionalGeneration, OmniProcessor
    from omni.model.forward import load_text_tokenizer

    torch.manual_seed(0)
    model = OmniForConditionalGeneration.from_text("tiny:llama")
    processor = OmniProcessor(load_text_tokenizer("tiny:llama"))
    whisper = {"d_model": 128, "encoder_layers": 1, "encoder_attention_heads": 2,
               "encoder_ffn_dim": 64}  # fmt: skip
    encoder = {"kind": "codec", "model_config": whisper, "books": BOOKS, "decoder_hidden": 32,
               "decoder_layers": 1}  # fmt: skip
    model.attach("speech", {"encoder": encoder, "projector": {"kind": "codes"}}, processor)
    for kind, options in heads.items():
        model.attach(kind, {"head": {"kind": kind, **options}}, processor)
    return model.eval()
