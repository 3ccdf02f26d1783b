"""Samples of pictures with a caption and a category: what `stamps` and `shapes` have in common."""

from collections.abc import Iterator, Mapping, Sequence

from ...shards.sample import Sample
from ..base import Build, facts, heldout
from ..questions import Picture, Questioner, caption_only


def samples(
    source: str,
    licence: str,
    pictures: Sequence[tuple[Picture, bytes]],
    build: Build,
    variants: int,
    turns: int,
    kinds: str,
) -> Iterator[Sample]:
    """Yield `variants` conversations per training image and one caption per held-out image.

    Args:
        source: name for the meta.
        licence: of the images, for the meta.
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
            meta = facts(source, licence, questioner.first_kind(step), **about(picture))
            yield Sample(messages, {"img0.jpg": data}, meta)
    for picture, data in test:
        meta = facts(source, licence, "caption", **about(picture))
        messages = caption_only(picture, "img0.jpg")
        yield Sample(messages, {"img0.jpg": data}, meta, split="heldout")


def about(picture: Picture) -> Mapping[str, str]:
    """Return the meta facts of a picture."""
    return {
        "identity": picture.identity,
        "category": picture.category,
        "caption": picture.caption,
    }
