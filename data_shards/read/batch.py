"""A batch: tensors of one packed row, and what they were made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from omni.encoders import encoder_class, readers
from omni.processing.processor import IGNORE_INDEX, Encoded

from ..plan.plan import Item, Pack, Plan
from ..shards.shard import Entry


class Row(NamedTuple):
    """A sample to read: `whole` is what its row has by the plan, `start` where its piece begins."""

    entry: Entry
    item: Item
    whole: int
    start: int


def rows_of(plan: Plan, pack: Pack) -> list[Row]:
    """Look up where the samples of a pack lie."""
    limit, found = plan.config.max_length or plan.config.max_tokens or 0, []
    for item in pack.items:
        whole = int(plan.lengths[item.source].tokens[item.row])
        entry = plan.sources[item.source].entry(item.row)
        found.append(Row(entry, item, whole, item.piece * limit))
    return found


@dataclass
class Documents:
    """The documents of a packed row in order, (n,) each; a sample owns one of them or several."""

    sample: list[int] = field(default_factory=list)
    """which sample of the batch: 0, 0, 1, 1 for two documents of two samples each"""
    lengths: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    """label tokens"""
    sources: list[str] = field(default_factory=list)
    modalities: list[str] = field(default_factory=list)
    """"text", or the attached ones that it has, sorted and joined: "audio+vision"."""
    keys: list[str] = field(default_factory=list)
    """"shard:key" of the sample"""
    numbers: list[Mapping[str, float]] = field(default_factory=list)
    """what the rendering told of the sample besides, see `Rendering.numbers`"""

    def __len__(self) -> int:
        return len(self.sample)

    @property
    def samples(self) -> int:
        """Return how many samples own them."""
        return len(set(self.sample))


@dataclass
class Batch:
    """What a rank trains on at once.

    `tensors` are what `OmniProcessor.pack` returns. Which of them the host reads, and so stay
    with it, is said by the encoders: see `omni.encoders`.
    """

    tensors: dict[str, torch.Tensor]
    documents: Documents
    counts: dict[str, float]
    """`samples`, `tokens`, `label_tokens`, `positions` (tokens and what only fills the row),
    `images` (frames of videos too), `audio_seconds`, and `quarantined`: samples left out"""
    step: int
    pack: int
    rows: list[Row]
    """where its samples lie"""


def make_batch(
    processor: Any,
    found: Sequence[tuple[Row, list[Encoded]]],
    padding: list[Encoded],
    step: int,
    pack: int,
    quarantined: int,
) -> Batch:
    """Pack the documents of samples; without any, `padding`, which counts as no sample.

    Args:
        processor: packs.
        found: samples that were read, each with its documents.
        padding: a sample without labels.
        step: of the plan.
        pack: of the step.
        quarantined: samples that the pack lost.
    """
    encoded = [document for _, several in found for document in several]
    tensors = processor.pack(encoded or padding)
    labelled = tensors["labels"].numpy()[0] != IGNORE_INDEX
    lengths = [len(e) for e in encoded]
    starts = np.cumsum([0, *lengths[:-1]])
    labels = np.add.reduceat(labelled, starts, dtype=np.int64).tolist() if lengths else []
    owners = [n for n, (_, several) in enumerate(found) for _ in several]
    documents = Documents(
        owners, lengths, labels, [found[n][0].item.source for n in owners],
        [modality(e) for e in encoded], [found[n][0].entry.where for n in owners],
        [e.numbers for e in encoded],
    )  # fmt: skip
    images, seconds = _media(encoded, processor.modalities)
    counts = {
        "samples": len(found), "tokens": sum(lengths), "label_tokens": sum(labels),
        "positions": tensors["input_ids"].numel(), "images": images, "audio_seconds": seconds,
        "quarantined": quarantined,
    }  # fmt: skip
    return Batch(tensors, documents, counts, step, pack, [row for row, _ in found])


def _media(encoded: Sequence[Encoded], modalities: dict[str, Any]) -> tuple[int, float]:
    """Count images, frames of videos too, and seconds of sound: once, whoever shows them."""
    images, seconds = 0, 0.0
    used = {name for e in encoded for name, items in e.media.items() if items}
    reading = (readers(modalities, medium) for medium in ("image", "audio"))
    for name in {n for names in reading for n in [n for n in names if n in used][:1]}:
        config = modalities[name]["encoder"]
        cls = encoder_class(config)
        items = {id(item): item for e in encoded for item in e.media.get(name, [])}.values()
        if cls.media == "audio":
            grids = [grid for item in items for grid in cls.grids(config, item)]
            seconds += sum(frames for (frames,) in grids) * cls.frame_seconds(config)
        else:
            images += len(items)
    return images, seconds


def modality(encoded: Encoded) -> str:
    """Name what a document consists of: "text", or its media's modalities, "audio+vision"."""
    return "+".join(sorted(name for name, items in encoded.media.items() if items)) or "text"
