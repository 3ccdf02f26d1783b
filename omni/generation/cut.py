"""Take a piece of an encoded document without cutting through a picture or a clip."""

from typing import Any

import torch

from ..processing.processor import Encoded
from ..projectors import item_lengths


def cut(processor: Any, encoded: Encoded, start: int, stop: int) -> Encoded:
    """Return tokens [start, stop) of a document; a document with media is cut at its end only.

    A medium that does not fit whole is left out together with everything after it, so the piece
    may be shorter than asked for.
    """
    found = {
        name: spans(processor.modalities[name], encoded, items)
        for name, items in encoded.media.items()
    }
    if start and found:
        raise ValueError("a document with media can only be cut at its end")
    halved = [first for ends in found.values() for first, last in ends if first < stop <= last]
    while halved:
        stop = min(halved)
        halved = [first for ends in found.values() for first, last in ends if first < stop <= last]
    media = {}
    for name, ends in found.items():
        if kept := [m for m, (_, last) in zip(encoded.media[name], ends, strict=True)
                    if last < stop]:  # fmt: skip
            media[name] = kept
    return Encoded(encoded.input_ids[start:stop], encoded.labels[start:stop], media)


def spans(config: dict[str, Any], encoded: Encoded, items: list) -> list[tuple[int, int]]:
    """Return (first, last) position of each item's placeholders."""
    places = torch.nonzero(encoded.input_ids == config["token_id"])[:, 0].tolist()
    spans, at = [], 0
    for item in items:
        count = sum(item_lengths(config, item))
        spans.append((places[at], places[at + count - 1]))
        at += count
    return spans
