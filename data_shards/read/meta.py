"""What a batch says of itself: counts for the log, and facts of each document."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from omni.encoders import encoder_class
from omni.processing.processor import IGNORE_INDEX, Encoded


def batch_meta(
    batch: Mapping[str, Any], encoded: Sequence[Encoded], modalities: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe a packed row.

    Args:
        batch: what `processor.pack` made of the documents.
        encoded: the documents, without one that only fills an empty row.
        modalities: those of the processor.

    Returns:
        `samples`, `tokens`, `label_tokens`, `images` (frames of videos too), `audio_seconds`,
        `positions` (tokens and what only fills the row), and by document, in order:
        `lengths` and `document_labels` in tokens, `modalities` ("text", or the attached ones
        it has, sorted and joined: "audio+vision").
    """
    images, seconds = 0, 0.0
    lengths = [len(e.input_ids) for e in encoded]
    labelled = batch["labels"].numpy()[0] != IGNORE_INDEX
    starts = np.cumsum([0, *lengths[:-1]])
    counts = np.add.reduceat(labelled, starts, dtype=np.int64).tolist() if lengths else []
    for name, config in modalities.items():
        cls = encoder_class(config["encoder"])
        items = [item for e in encoded for item in e.media.get(name, [])]
        grids = [grid for item in items for grid in cls.grids(config["encoder"], item)]
        if cls.media == "audio":
            seconds += sum(frames for (frames,) in grids) * cls.frame_seconds
        else:
            images += len(grids)
    return {
        "samples": len(encoded),
        "tokens": sum(lengths),
        "label_tokens": sum(counts),
        "positions": batch["input_ids"].numel(),
        "images": images,
        "audio_seconds": seconds,
        "lengths": lengths,
        "document_labels": counts,
        "modalities": [modality(e) for e in encoded],
    }


def modality(encoded: Encoded) -> str:
    """Name what a document consists of: "text", or its media's modalities, "audio+vision"."""
    return "+".join(sorted(name for name, items in encoded.media.items() if items)) or "text"
