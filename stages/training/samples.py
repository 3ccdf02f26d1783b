"""A stage's source before it is trained on: the model can use it, as far as a look at it tells."""

from dataclasses import replace
from typing import Any

from data_shards.index.index import Index
from data_shards.plan.plan import Plan, PlanConfig
from data_shards.read.encode import Encode
from data_shards.read.quarantine import FEW
from data_shards.shards.rendering import Rendering
from data_shards.shards.shard import BadSample
from omni.entry import EntryError
from omni.processing.messages import MessageError


def check_media(name: str, index: Index, processor: Any) -> None:
    """Refuse a source with media that the model has no encoder for, in any of its samples.

    Raises:
        EntryError: names the first such sample.
    """
    for kind, row in index.first_of_kinds().items():
        try:
            processor.media_lengths(kind, index.facts(row, row + 1).part[:0])
        except MessageError as error:
            where = index.entry(row).where
            raise EntryError(f"source {name!r}: {where}: {error}", "mixture", name) from error


def check_samples(
    name: str, index: Index, processor: Any, config: PlanConfig, rendering: Rendering
) -> None:
    """Encode samples of a source, from the first, until one fits.

    If none of the first few does, the lengths of all are counted, which takes the tokeniser's
    time for them.

    Raises:
        EntryError: the first few are bad, or all are too long.
    """
    encode, bad, capped = Encode(processor, rendering), [], config.max_patches or config.max_frames
    rows = range(min(FEW, len(index)))
    for row in rows:
        try:
            tokens = sum(map(len, encode.whole(index.entry(row))))
        except BadSample as error:
            bad.append(str(error))
            continue
        if capped:
            break
        if config.overlong != "skip" or tokens <= (config.max_length or 0):
            return
    if len(bad) == len(rows):
        raise EntryError(
            f"source {name!r}: none of its first {len(bad)} samples can be used; the first: "
            f"{bad[0]}", "mixture", name,
        )  # fmt: skip
    try:
        lengths = {name: index.lengths(processor, rendering)}
        Plan({name: index}, replace(config, mixture={name: 1}), lengths)
    except ValueError as error:
        raise EntryError(error, "max_length") from error
