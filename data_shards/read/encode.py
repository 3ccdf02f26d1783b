"""A row of a plan -> its documents as tensors."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from omni.generation.cut import cut
from omni.media.decode import MediaError
from omni.processing.messages import MessageError, fill
from omni.processing.processor import Encoded, PlaceholderError

from ..plan.mixture import PlanConfig
from ..shards.rendering import CONVERSATION, Rendering
from ..shards.sample import Sample
from ..shards.shard import BadSample, Entry
from .batch import Row
from .entry import read_entry
from .opened import Opener
from .reader import bad_at


class Processor(Protocol):
    """What the loader needs of a processor: messages -> tokens and media, and packing."""

    modalities: dict[str, Any]

    def encode(self, messages: list[dict[str, Any]], /, **how: Any) -> Encoded: ...
    def pack(self, encoded: list[Encoded], /) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Encode:
    """A row -> its documents as tensors, for a reader."""

    processor: Processor
    rendering: Rendering = CONVERSATION
    opener: Opener = field(default_factory=Opener)

    def whole(self, entry: Entry) -> list[Encoded]:
        """Encode all documents of a sample; raises BadSample."""
        try:
            return self.sample(read_entry(entry, self.opener))
        except (MessageError, MediaError, PlaceholderError) as error:
            raise BadSample(bad_at(entry, str(error))) from None

    def sample(self, sample: Sample) -> list[Encoded]:
        """Encode all documents of a sample; raises what makes it bad."""
        row = sample.row()
        found = self.rendering.documents(row)
        first = self.rendering.labels_from(row, sample.meta)
        for messages in found:
            if not any(message["role"] == "assistant" for message in messages):
                raise MessageError("no assistant turn, so there is nothing to learn from it")
        numbers = self.rendering.numbers(sample.meta)
        how = {"labels_from": first, "shown": {}} if first or len(found) > 1 else {}
        encoded = [self.processor.encode(fill(messages, sample.parts), **how) for messages in found]
        for document in encoded:
            document.numbers |= numbers
        return encoded

    def __call__(self, row: Row) -> list[Encoded]:
        item, encoded = row.item, self.whole(row.entry)
        # 9. The plan relied on this length. A pack is never longer than planned, whatever
        #    the files hold by now.
        if (tokens := sum(map(len, encoded))) != row.whole:
            reason = (
                f"{tokens} tokens, but the plan counts {row.whole}: the index is "
                "not of these files; `omni-shards index --check` makes it anew"
            )
            raise BadSample(bad_at(row.entry, reason))
        if item.tokens < row.whole:  # never of several documents: see `check_overlong`
            return [cut(self.processor, encoded[0], row.start, row.start + item.tokens)]
        return encoded


def check_overlong(config: PlanConfig, rendering: Rendering) -> None:
    """Refuse to cut samples of several documents.

    Raises:
        ValueError: says what to write in the recipe.
    """
    if rendering.documents_per_sample > 1 and config.overlong != "skip":
        raise ValueError(
            f"overlong: {config.overlong} cuts a document, and here a sample is "
            f"{rendering.documents_per_sample} that are compared: use overlong: skip"
        )
