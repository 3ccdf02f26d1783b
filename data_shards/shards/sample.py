"""The on-disk contract: one sample is a json part and the media parts that it names."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from omni.processing.messages import Message, MessageError, fill, media_refs, validate

SCHEMA = 1
META = ("source", "license", "schema")  # what `build` promises that meta says of every sample
MAX_JSON_BYTES = 16 << 20
MAX_PARTS = 1000
_KEY = re.compile(r"[A-Za-z0-9_\-]+")
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_LONG = b"0" * 19  # digits, once all are zeros
_PART = re.compile(r"(img|aud|vid)\d+\.[a-z0-9]+")


class SampleError(ValueError):
    """A sample that breaks the on-disk contract; the text says how."""


@dataclass(slots=True)
class Sample:
    """One conversation with its media files.

    `messages` name media by part name ("img0.jpg"); `parts` maps those names to file bytes.
    A preference has two continuations of `messages`, `chosen` and `rejected`; others have none.
    `split` is the prefix of the shard it belongs to: "train", or "heldout" with an optional
    suffix. `where` is "shard:key" once the sample was read from disk.
    """

    messages: list[Message]
    parts: dict[str, bytes]
    meta: dict[str, Any]
    key: str = ""
    split: str = "train"
    where: str = field(default="", compare=False)
    chosen: list[Message] | None = None
    rejected: list[Message] | None = None

    def refs(self) -> Iterator[tuple[str, str]]:
        """Yield (kind, part name) of every media part, of both continuations as well."""
        for messages in (self.messages, self.chosen, self.rejected):
            yield from media_refs(messages or [])

    def row(self) -> dict[str, Any]:
        """Return what the json part says, but for `meta`."""
        row: dict[str, Any] = {"id": self.key, "messages": self.messages}
        if self.chosen is not None:
            row |= {"chosen": self.chosen, "rejected": self.rejected}
        return row

    def conversation(self) -> list[Message]:
        """Return the messages with every media file name replaced by that file's bytes.

        The sample must be valid, as all are that were read.
        """
        return fill(self.messages, self.parts)

    def to_json(self) -> bytes:
        """Return the json part; its keys keep their order, so equal samples are equal bytes.

        Raises:
            SampleError: it is too large, or holds text that is not Unicode.
        """
        row = self.row() | {"meta": self.meta}
        try:
            data = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()
        except UnicodeEncodeError as error:
            raise SampleError("a text holds half a surrogate pair") from error
        if len(data) > MAX_JSON_BYTES:
            raise SampleError(f"{len(data):,} bytes of json; the limit is {MAX_JSON_BYTES:,}")
        return data


def check(sample: Sample) -> None:
    """Check what `build` promises of every sample that it writes; the key may come later.

    Raises:
        SampleError: a bad key or part name, an unused part, or missing meta facts.
        MessageError: the conversation itself is wrong.
    """
    if sample.key and not _KEY.fullmatch(sample.key):
        raise SampleError(f"key {sample.key!r}: use letters, digits, '_' and '-'; a dot ends a key")
    for name in sample.parts:
        if not _PART.fullmatch(name):
            raise SampleError(f"part name {name!r}: use imgN.EXT, audN.EXT or vidN.EXT")
    missing = [name for name in META if name not in sample.meta]
    if missing:
        raise SampleError(f"meta lacks {', '.join(missing)}")
    _validate(sample)
    unused = set(sample.parts) - {ref for _, ref in sample.refs()}
    if unused:
        raise SampleError(f"no message uses {', '.join(sorted(unused))}")


def parse(key: str, members: dict[str, bytes], where: str = "", split: str = "train") -> Sample:
    """Turn the files of one sample (part name -> bytes, "json" among them) into a Sample.

    Facts in meta are optional here, so that shards from elsewhere can be read.

    Raises:
        SampleError: the json part is missing, too large, not json or of a newer schema.
        MessageError: the conversation is wrong or names a file that is not among the members.
    """
    raw = members.get("json")
    if raw is None:
        raise SampleError("there is no .json part")
    if len(raw) > MAX_JSON_BYTES:
        raise SampleError(f"the json part has {len(raw):,} bytes; the limit is {MAX_JSON_BYTES:,}")
    try:
        row = _loads(raw)
    except (ValueError, RecursionError) as error:
        raise SampleError(f"the json part is not readable json: {error}") from error
    if not isinstance(row, dict) or "messages" not in row:
        raise SampleError("the json part must be an object with the key 'messages'")
    meta = row.get("meta") or {}
    if not isinstance(meta, dict):
        raise SampleError("'meta' must be an object")
    schema = meta.get("schema", SCHEMA)
    if schema != SCHEMA:
        raise SampleError(f"schema {schema!r} is not {SCHEMA}, the only one this version reads")
    parts = {name: data for name, data in members.items() if name != "json"}
    pair = row.get("chosen"), row.get("rejected")
    sample = Sample(row["messages"], parts, meta, key, split, where, *pair)
    _validate(sample)
    return sample


def _loads(raw: bytes) -> Any:
    """Parse as Python's json does, thrice as fast: orjson rounds integers of over 64 bits and
    refuses NaN, half a surrogate pair and UTF-16, so what may hold them is left to json.
    """
    if _LONG in raw.translate(_ZEROS):  # a quarter of what a regular expression takes
        return json.loads(raw)
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return json.loads(raw)


def _validate(sample: Sample) -> None:
    """Check the conversation and, of a preference, that each answer continues it."""
    try:
        validate(sample.messages, sample.parts)
        pair = {"chosen": sample.chosen, "rejected": sample.rejected}
        if pair["chosen"] is None and pair["rejected"] is None:
            return
        for name, answer in pair.items():
            if not isinstance(answer, list) or not answer:
                raise SampleError(f"{name!r} must be a list of messages, as the other answer is")
            validate([*sample.messages, *answer], sample.parts)
            if answer[-1]["role"] != "assistant":
                raise SampleError(f"{name!r} does not end with an assistant message")
        if sample.chosen == sample.rejected:
            raise SampleError("'chosen' and 'rejected' are the same")
    except TypeError as error:  # a media reference that cannot even be looked up, such as a list
        raise MessageError(f"a media part must name a file of the sample: {error}") from error
