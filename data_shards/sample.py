"""The on-disk contract: one sample is a json part and the media parts that it names."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from omni.messages import Message, MessageError, bind, media_refs, validate

SCHEMA = 1
MAX_JSON_BYTES = 16 << 20
MAX_PARTS = 1000
_KEY = re.compile(r"[A-Za-z0-9_\-]+")
_PART = re.compile(r"(img|aud|vid)\d+\.[a-z0-9]+")


class SampleError(ValueError):
    """A sample that breaks the on-disk contract; the text says how."""


@dataclass(slots=True)
class Sample:
    """One conversation with its media files.

    `messages` name media by part name ("img0.jpg"); `parts` maps those names to file bytes.
    `split` is the prefix of the shard it belongs to: "train", or "heldout" with an optional
    suffix. `where` is "shard:key" once the sample was read from disk.
    """

    messages: list[Message]
    parts: dict[str, bytes]
    meta: dict[str, Any]
    key: str = ""
    split: str = "train"
    where: str = field(default="", compare=False)

    def conversation(self) -> list[Message]:
        """Return the messages with every media file name replaced by that file's bytes."""
        return bind(self.messages, self.parts)

    def to_json(self) -> bytes:
        """Return the json part; its keys keep their order, so equal samples are equal bytes."""
        row = {"id": self.key, "messages": self.messages, "meta": self.meta}
        return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()


def check(sample: Sample) -> None:
    """Check what `build` promises of every sample that it writes.

    Raises:
        SampleError: a bad key or part name, an unused part, or missing meta facts.
        MessageError: the conversation itself is wrong.
    """
    if not _KEY.fullmatch(sample.key):
        raise SampleError(f"key {sample.key!r}: use letters, digits, '_' and '-'; a dot ends a key")
    for name in sample.parts:
        if not _PART.fullmatch(name):
            raise SampleError(f"part name {name!r}: use imgN.EXT, audN.EXT or vidN.EXT")
    missing = [name for name in ("source", "license", "schema") if name not in sample.meta]
    if missing:
        raise SampleError(f"meta lacks {', '.join(missing)}")
    validate(sample.messages, sample.parts)
    unused = set(sample.parts) - {ref for _, ref in media_refs(sample.messages)}
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
        row = json.loads(raw)
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
    _validate(row["messages"], parts)
    return Sample(row["messages"], parts, meta, key=key, split=split, where=where)


def _validate(messages: Any, parts: dict[str, bytes]) -> None:
    try:
        validate(messages, parts)
    except TypeError as error:  # a media reference that cannot even be looked up, such as a list
        raise MessageError(f"a media part must name a file of the sample: {error}") from error
