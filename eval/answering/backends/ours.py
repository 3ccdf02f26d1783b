"""A checkpoint of ours as an `Answerer`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omni.generation.settings import Generation

from ..answerer import Answerer
from ..cost import TokenCost
from ..reply import Reply
from ..speaker import Speaker
from ..store import settings_digest, weights_fingerprint
from .opened import Opened

FEATURES_MB = 500  # of images and sounds that are shown more than once


def open_checkpoint(folder: Path, dtype: str = "", **limits: Any) -> Opened:
    """Load a checkpoint, in float32 if not told otherwise; on the GPU of this rank if it has one.

    Raises:
        CheckpointError: see `omni.load.load`.
    """
    import torch

    from omni.features.cache import FeatureCache
    from omni.load import load

    model, processor = load(folder, dtype or "float32")
    if torch.cuda.is_available():
        model.to(device())
    model.feature_cache = FeatureCache(FEATURES_MB << 20)
    answerer = for_model(model, processor, **limits)
    return Opened(answerer, weights_fingerprint(model), model, processor)


def device() -> Any:
    """The GPU of this process, by its local rank; or the CPU."""
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def for_model(model: Any, processor: Any, **limits: Any) -> Answerer:
    """An `Answerer` over `omni.generation.answer`."""
    from omni.encoders import encoder_class
    from omni.generation.answer import complete, prompts
    from omni.generation.prefix import shares

    sharing = shares(model)

    def answer_batch(batch: Any, generation: Generation, keys: Sequence[str]) -> list[Reply]:
        found = complete(model, processor, batch, generation, keys=keys)
        return [Reply(one.text, one.finish, thinking=one.thinking) for one in found]

    speaks = model.head_of("depth") is not None
    kinds = {encoder_class(m["encoder"]).media for m in model.config.modalities.values()}
    return Answerer(
        answer_batch,
        TokenCost(processor),
        encode=lambda batch: prompts(processor, batch, sharing),
        settings=settings_digest(model, processor.fingerprint, processor.modalities),
        loaded={"dtype": str(model.dtype).removeprefix("torch.")},
        speaker=Speaker(model, processor, limits.get("sampling", {})) if speaks else None,
        reads=frozenset(kinds | ({"video"} if "image" in kinds else set())),
        **limits,
    )
