"""Samples of pictures with a caption and a category, of all sources that have such."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from PIL import Image

from ...shards.sample import Sample
from ..base import Build, facts, heldout
from ..questions import Picture, Questioner, caption_only

LONGEST_SIDE = 384
T = TypeVar("T")


def samples(
    source: str,
    pictures: Sequence[tuple[Picture, bytes]],
    build: Build,
    variants: int,
    turns: int,
    kinds: str,
) -> Iterator[Sample]:
    """Yield `variants` conversations per training image and one caption per held-out image.

    Args:
        source: name for the meta.
        pictures: with the JPEG bytes; all images of one identity land in the same split.
        build: seed and share to hold out; stratified by category.
        variants: conversations per training image.
        turns: questions per conversation.
        kinds: of the questions, comma-separated.
    """
    strata: dict[str, str] = {}
    for picture, _ in pictures:
        strata.setdefault(picture.identity, picture.category)
    out = heldout(strata, build.heldout, build.seed)
    train = [pair for pair in pictures if pair[0].identity not in out]
    test = [pair for pair in pictures if pair[0].identity in out]
    build.total = len(train) * variants + len(test)
    questioner = Questioner([picture for picture, _ in train], build.rng(source, "turns"), kinds)
    for variant in range(variants):
        for index, (picture, data) in enumerate(train):
            # shifting by the image keeps the kinds mixed even where `variants` is small
            step = index + variant
            messages = questioner.conversation(picture, "img0.jpg", step, turns)
            meta = facts(source, picture.licence, questioner.first_kind(step), **about(picture))
            yield Sample(messages, {"img0.jpg": data}, meta)
    for picture, data in test:
        meta = facts(source, picture.licence, "caption", **about(picture))
        messages = caption_only(picture, "img0.jpg")
        yield Sample(messages, {"img0.jpg": data}, meta, split="heldout")


def about(picture: Picture) -> Mapping[str, str]:
    """Return the meta facts of a picture."""
    return {
        "identity": picture.identity,
        "category": picture.category,
        "caption": picture.caption,
    }


def evenly(items: list[T], most: int) -> list[T]:
    """Return at most so many of the items (0: all), from all over the list."""
    count = min(most, len(items)) if most else len(items)
    return [items[i * len(items) // count] for i in range(count)]


def small(source: Any) -> Image.Image:
    """Decode an image, a file or its bytes, with a longest side of at most LONGEST_SIDE pixels."""
    # here, because torch behind it takes seconds to import
    from omni.media.decode import load_image

    image = load_image(source)
    longest = max(image.size)
    if longest <= LONGEST_SIDE:
        return image
    size = [max(1, round(side * LONGEST_SIDE / longest)) for side in image.size]
    return image.resize((size[0], size[1]), Image.Resampling.BICUBIC, reducing_gap=2.0)
