"""Logits where there is a label, chunk by chunk, beside all of them: same loss, less memory."""

import weakref
from pathlib import Path
from typing import Any

from data_shards.bench.result import Result

LABELLED, CLOSE, CUT = 0.4, 1e-6, 0.55
WORDS, WIDTH = 49_152, 128  # of the vocabulary (SmolLM2's) and of a hidden state


def run(folder: Path, small: bool = False, chunk: int = 64) -> Result:
    """Compare with transformers' own loss of the same LLM on the same packed row.

    Memory is counted, not estimated: the bytes of all tensors as wide as the vocabulary that are
    alive at once while a loss is made and its gradients are.

    Args:
        folder: unused.
        small: a fifth of the tokens, an eighth of the words.
        chunk: positions whose logits may be alive at once.
    """
    import torch

    from omni.model import head

    from ..doctor.comparison import gradient_difference

    words, length = (WORDS // 8, 200) if small else (WORDS, 1000)
    model, batch = _model(words), _batch(words, length)
    count = torch.tensor(float((batch["labels"][:, 1:] >= 0).sum()))
    ways: dict[str, tuple[Any, int]] = {
        "every position (transformers)": (model.language_model, words * length),
        "labels alone": (model, words * length),
        f"labels alone, {chunk} at a time": (model, words * chunk),
    }
    rows, found, limits = [], [], dict(head.LOGITS)
    try:
        for name, (module, limit) in ways.items():
            head.LOGITS["cpu"] = limit
            loss, gradients, peak = _measure(module, batch, count, words)
            found.append((loss, gradients))
            rows.append({"logits at": name, "loss": f"{loss:.7f}", "MB of logits": peak / 2**20})
    finally:
        head.LOGITS.update(limits)
    whole = rows[0]["MB of logits"]
    first = found[0][0]  # its float32 has steps of 1e-6 where it is over 8
    off = [abs(loss - first) / max(1.0, first) for loss, _ in found[1:]]
    bent = [gradient_difference(gradients, found[0][1])[0] for _, gradients in found[1:]]
    least, most = (1 - row["MB of logits"] / whole for row in rows[1:])
    for row in rows:
        row["cut"] = f"{1 - row['MB of logits'] / whole:.1%}"
        row["MB of logits"] = round(row["MB of logits"], 1)
    figures = {
        "loss_difference": float(f"{max(off):.1e}"),
        "gradient_difference": float(f"{max(bent):.1e}"),
        "memory_cut": round(least, 4), "memory_cut_chunked": round(most, 4),
        "labelled": round(float(count) / length, 3),
    }  # fmt: skip
    ok = max(off) <= CLOSE and max(bent) <= CLOSE and least >= CUT and most >= least
    return Result(ok, figures, rows)


def _model(words: int) -> Any:
    import torch
    from transformers import LlamaConfig

    from omni import OmniConfig, OmniForConditionalGeneration

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=words, hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    return OmniForConditionalGeneration(OmniConfig(config))


def _batch(words: int, length: int) -> dict[str, Any]:
    """Return one packed row of documents of 100 tokens, the last of each labelled."""
    import torch

    torch.manual_seed(1)
    ids = torch.randint(words, (1, length))
    positions = torch.arange(length)[None] % 100
    labels = ids.masked_fill(positions < round(100 * (1 - LABELLED)), -100)
    return {"input_ids": ids, "labels": labels, "position_ids": positions}


def _measure(
    module: Any, batch: dict[str, Any], count: Any, words: int
) -> tuple[float, dict[str, Any], int]:
    """Return the loss, the gradients, and the most bytes of logits that were alive at once."""
    from omni.model.head import find_labels

    module.zero_grad()
    # an empty cache would keep transformers from isolating the documents
    options: dict[str, Any] = {"use_cache": False}
    if hasattr(module, "encoders"):  # as every packed batch says
        options = {"label_positions": find_labels(batch["labels"])}
    with watch(words) as watched:
        loss = module(**batch, num_items_in_batch=count, **options).loss
        loss.backward()
    gradients = {name.removeprefix("language_model."): p.grad.clone()
                 for name, p in module.named_parameters()}  # fmt: skip
    return loss.item(), gradients, watched.peak


def watch(words: int) -> Any:
    """Return a context whose `peak` is the most bytes of (..., words) tensors alive at once."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        alive = peak = 0

        def __init__(self) -> None:
            super().__init__()
            self.known: set[int] = set()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            result = func(*args, **(kwargs or {}))
            for one in result if isinstance(result, tuple | list) else [result]:
                if isinstance(one, torch.Tensor) and self.logits(one.shape):
                    self.see(one.untyped_storage())
            return result

        def logits(self, shape: Any) -> bool:
            return shape[-1:] == (words,) and shape != (WIDTH, words)  # a gradient of the head

        def see(self, storage: Any) -> None:
            place, size = storage.data_ptr(), storage.nbytes()
            if place not in self.known:  # a view of known memory is no more of it
                self.known.add(place)
                self.alive += size
                self.peak = max(self.peak, self.alive)
                weakref.finalize(storage, self.gone, place, size)

        def gone(self, place: int, size: int) -> None:
            self.known.discard(place)
            self.alive -= size

    return Watch()
