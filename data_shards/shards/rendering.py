"""Which documents a sample becomes: one conversation, or several that belong together."""

from collections.abc import Mapping
from typing import Any, ClassVar

from omni.nearest import nearest
from omni.processing.messages import MessageError

LABELS = "labels"
"""in a sample's `meta`: which of its answers have labels"""
ALL, LAST = "all", "last"


class Rendering:
    """The default: a sample is one document, its messages.

    What objectives compare, such as two answers to one prompt, is made by a subclass. The
    documents of a sample are packed together or not at all, in this order.
    """

    name: ClassVar[str] = ""
    """goes into the key of cached lengths, so it changes with what `documents` does"""
    documents_per_sample: ClassVar[int] = 1
    """each shows all media of the sample's messages"""
    told: ClassVar[tuple[str, ...]] = ()
    """names of `numbers`"""

    def documents(self, row: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
        """Return the conversations of a sample.

        Args:
            row: its json part, or the same with media filled in: `messages`, and for a
                preference `chosen` and `rejected`.

        Raises:
            MessageError: it is not of the kind that this rendering is for.
        """
        if row.get("chosen") is not None:
            raise MessageError(
                "it is a preference, one prompt with a chosen and a rejected answer, of which this "
                "objective could use neither: train on it with an objective on pairs, or build a "
                "source of conversations from the data, for instance with `omni-shards build llava`"
            )
        return [row["messages"]]

    def labels_from(self, row: Mapping[str, Any], meta: Mapping[str, Any]) -> int:
        """Return how many first messages of each conversation have no labels.

        Raises:
            MessageError: its `meta` says neither that all answers have them nor that the last has.
        """
        which = meta.get(LABELS, ALL)
        if which == ALL:
            return 0
        if which != LAST:
            raise MessageError(f"labels in its meta is {ALL} or {LAST}, not {which!r}; "
                               f"{nearest(which, (ALL, LAST))}")  # fmt: skip
        answers = [n for n, turn in enumerate(row["messages"]) if turn["role"] == "assistant"]
        return answers[-1] if answers else 0

    def numbers(self, meta: Mapping[str, Any]) -> dict[str, float]:
        """Return what the objective is to know of a sample besides, by name, from its `meta`.

        Each of its documents has them, and a batch has (1, n) of them by that name.

        Raises:
            MessageError: `meta` lacks them, or they cannot be.
        """
        return {}


class Pair(Rendering):
    """A preference is two documents, its prompt with either answer; the prompt has no labels."""

    name = "pair"
    documents_per_sample = 2

    def documents(self, row: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
        if row.get("chosen") is None:
            raise MessageError(
                "it has no chosen and rejected answer, and this objective compares two: build a "
                "source of pairs with `omni-shards build preference`, or use objective sft"
            )
        return [row["messages"] + row[answer] for answer in ("chosen", "rejected")]

    def labels_from(self, row: Mapping[str, Any], meta: Mapping[str, Any]) -> int:
        return len(row["messages"])


CONVERSATION, PAIR = Rendering(), Pair()
