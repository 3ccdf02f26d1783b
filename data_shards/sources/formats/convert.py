"""What converters of users' files share: rows that are cheap to list and made one by one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from omni.media.decode import MediaError
from omni.processing.messages import MessageError

from ...shards.rendering import ALL, LABELS, LAST
from ...shards.sample import Sample, SampleError, check
from ..base import Build, Groups, digest, facts, heldout

Which = Annotated[
    Literal["all", "last"], "which answers of a conversation are learnt: all, or the last"
]


class RowError(ValueError):
    """A row that cannot become a sample."""


# what a bad row raises; anything else is a bug
ROW_ERRORS = (RowError, SampleError, MessageError, MediaError, OSError)


@dataclass(frozen=True, slots=True)
class Input:
    """One row of the user's files.

    `where` is "FILE:row". Rows that share one of `names` (of a file, its content, a speaker),
    even by way of other rows, land in the same split. `make` reads and decodes what the row
    names; it may be called in any thread and raises RowError, MediaError or OSError.
    """

    where: str
    names: tuple[str, ...]
    make: Callable[[], Sample]


@dataclass(frozen=True, slots=True)
class Row:
    """A sample to be made: its split is known before that, so that a build can resume."""

    where: str
    split: str
    make: Callable[[], Sample]


@dataclass
class Converter:
    """A source that converts files: `inputs` lists the rows, the rest is the same for all."""

    license: Annotated[str, "licence of the data, for the manifest"] = "unknown"

    name: ClassVar[str]
    licenses: ClassVar[dict[str, str]] = {}

    def inputs(self, build: Build) -> Iterator[Input]:
        """Yield every row in a fixed order; what cannot even be listed goes to `build.skip`."""
        raise NotImplementedError

    def rows(self, build: Build) -> list[Row]:
        """List every row with its split."""
        build.licenses[self.name] = self.license
        found = list(self.inputs(build))
        build.report_unused(self.name)
        groups = Groups()
        for row in found:
            for name in row.names:
                groups.join(row.names[0], name)
        identity = [groups.find(row.names[0]) for row in found]
        out = heldout(dict.fromkeys(identity, ""), build.heldout, build.seed)
        build.total = len(found)
        return [
            Row(row.where, "heldout" if name in out else "train", partial(self._make, row, name))
            for row, name in zip(found, identity, strict=True)
        ]

    def _make(self, row: Input, identity: str) -> Sample:
        sample = row.make()
        names = {**sample.meta, "identity": identity}
        names = {key: name.encode("utf-8", "replace").decode() if isinstance(name, str) else name
                 for key, name in names.items()}  # fmt: skip
        sample.meta = facts(self.name, self.license, **names)
        check(sample)
        return sample

    def generate(self, build: Build) -> Iterator[Sample]:
        """Yield every good row; one that is not is skipped by name."""
        for row in self.rows(build):
            sample = attempt(row)
            if isinstance(sample, Sample):
                sample.split = row.split
                yield sample
            else:
                build.skip(row.where, str(sample))


@dataclass
class Conversations(Converter):
    """A converter whose rows may be conversations of several answers."""

    labels: Which = ALL

    def _make(self, row: Input, identity: str) -> Sample:
        sample = super()._make(row, identity)
        sample.meta |= labels_meta(self.labels)
        return sample


def labels_meta(which: str) -> dict[str, str]:
    """Return what the `meta` of a sample says of its labels; nothing: all answers have them."""
    return {LABELS: LAST} if which == LAST else {}


def attempt(row: Row) -> Sample | Exception:
    """Make the sample of a row, or return what is wrong with the row."""
    try:
        return row.make()
    except ROW_ERRORS as error:
        return error


def said(*values: Any) -> str:
    """Return a name for a row without media: what is said in it."""
    text = repr(values)
    return text if len(text) < 100 else f"{text[:60]} {digest(text):016x}"
