"""Read any sample of a shard; what is bad is named, never lost."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import google_crc32c

from omni.processing.messages import MessageError

from ..remote.cache import shard_cache
from ..remote.files import RemoteError, is_url
from ..shards.sample import Sample, SampleError, parse
from ..shards.shard import Bad, BadSample, Entry, find_shards, scan_shard
from .opened import Descriptor, Opener

__all__ = ["Bad", "BadSample", "Entry", "find_shards", "read_entry", "read_shard", "scan_shard"]

log = logging.getLogger(__name__)


def read_entry(entry: Entry, opener: Opener | None = None) -> Sample:
    """Read one sample, of a shard that `opener` has open or that is opened for it.

    Raises:
        BadSample: it cannot be read, differs from its checksums, is no sample, or breaks the
            message contract.
        RemoteError: its shard cannot be fetched; that says nothing of the sample.
    """
    try:
        try:
            members = _members(entry, opener or Descriptor)
        except SampleError:
            if not (is_url(entry.shard) and shard_cache().mend(entry.shard)):
                raise
            members = _members(entry, Descriptor)
        split = entry.shard.rpartition("/")[2].rpartition("-")[0] or "train"
        return parse(entry.key, members, entry.where, split)
    except RemoteError:
        raise
    except (SampleError, MessageError, OSError) as error:
        if isinstance(error, OSError) and opener:
            opener.forget()
        bad = Bad(entry.where.rpartition(":")[0], entry.key, entry.offset, str(error))
        raise BadSample(bad) from error


def _members(entry: Entry, opened: Callable[[str], Descriptor]) -> dict[str, bytes]:
    """Read the parts of a sample and check them.

    One read for all: it copies twice, but each lets another thread go first, which costs more.
    """
    members, start, shard = {}, entry.offset, opened(entry.shard)
    data = os.pread(shard.number, entry.span, start)
    for name, offset, size, crc in entry.parts:
        part = members[name] = data[offset - start : offset - start + size]
        if len(part) < size:
            raise SampleError(f"{name} is cut: the shard shrank since it was scanned")
        if crc is not None and google_crc32c.value(part) != crc:
            raise SampleError(
                f"{name} differs from its checksum: it changed since it was indexed "
                "(`omni-shards index --check` reads it again), or the disk is bad"
            )
    return members


def read_shard(
    path: str | Path,
    on_bad: Callable[[Bad], None] | None = None,
    checksums: Mapping[tuple[str, str], int] = MappingProxyType({}),
) -> Iterator[Sample]:
    """Yield every intact sample in order; `on_bad` is called with each that is not.

    Without `on_bad` each bad one is logged as a warning, and their number at the end.
    `checksums` hold the crc32c of parts by (key, part name), see `Sidecar.checksums`.
    """
    count = 0

    def report(bad: Bad) -> None:
        nonlocal count
        count += 1
        (on_bad or (lambda b: log.warning("skipped %s", b)))(bad)

    entries, damage = scan_shard(path)
    for bad in damage:
        report(bad)
    for entry in entries:
        parts = tuple(p._replace(crc=checksums.get((entry.key, p.name))) for p in entry.parts)
        try:
            yield read_entry(entry._replace(parts=parts))
        except BadSample as error:
            report(error.bad)
    if count and on_bad is None:
        log.warning("%s: %d bad, everything else was read", path, count)
