"""Which documents a sample becomes: one conversation, or several that belong together."""

from collections.abc import Mapping
from typing import Any, ClassVar

from omni.processing.messages import MessageError


class Rendering:
    """The default: a sample is one document, its messages.

    What objectives compare, such as two answers to one prompt, is made by a subclass. The
    documents of a sample are packed together or not at all, in this order.
    """

    name: ClassVar[str] = ""
    """goes into the key of cached lengths, so it changes with what `documents` does"""
    documents_per_sample: ClassVar[int] = 1
    """each shows all media of the sample's messages"""

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


CONVERSATION = Rendering()
