"""Write a set of shards with its manifest: all of it appears at once, or nothing does."""

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from webdataset.writer import TarWriter

from .manifest import MANIFEST, sha256, write_json
from .sample import SCHEMA, Sample, SampleError, check

SHARD_SAMPLES = 10_000
SHARD_BYTES = 256 << 20


class ShardSet:
    """A set of shards in the making; use as a context manager, then `commit`.

    Samples go to `<split>-NNNNNN.tar` in a folder beside `out`, which is renamed to `out` by
    `commit`. Whatever is left there by an earlier, interrupted build is removed first.
    """

    def __init__(
        self, out: Path, shard_samples: int = SHARD_SAMPLES, shard_bytes: int = SHARD_BYTES
    ):
        self.out = out
        self.building = out.parent / f".{out.name}.building"
        self.shard_samples, self.shard_bytes = shard_samples, shard_bytes
        self.counts: dict[str, Counter[str]] = {}
        self.identities: set[str] = set()
        self.shards: dict[str, dict[str, Any]] = {}
        self._keys: dict[str, set[str]] = {}
        self._open: dict[str, tuple[str, TarWriter, Any]] = {}

    def __enter__(self) -> "ShardSet":
        if self.out.exists() and not (self.out.is_dir() and self._ours()):
            raise FileExistsError(
                f"{self.out} exists and holds something other than shards; choose another folder"
            )
        shutil.rmtree(self.building, ignore_errors=True)
        self.building.mkdir(parents=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for split in list(self._open):
            self._close(split)
        shutil.rmtree(self.building, ignore_errors=True)

    def add(self, sample: Sample) -> None:
        """Write one sample; a sample without a key gets its number within the split.

        Raises:
            SampleError, MessageError: it breaks the contract, or its key was used before.
        """
        counts = self.counts.setdefault(sample.split, Counter())
        sample.key = sample.key or f"{counts.total():08d}"
        check(sample)
        keys = self._keys.setdefault(sample.split, set())
        if sample.key in keys:
            raise SampleError(f"key {sample.key!r} was already written to {sample.split}")
        keys.add(sample.key)
        name, writer = self._writer(sample.split)
        # two calls, because TarWriter sorts the parts of a call and json has to come first
        size = writer.write({"__key__": sample.key, "json": sample.to_json()})
        size += writer.write({"__key__": sample.key, **sample.parts})
        counts[str(sample.meta.get("kind", "conversation"))] += 1
        shard = self.shards[name]
        shard["samples"], shard["bytes"] = shard["samples"] + 1, shard["bytes"] + size
        if sample.split != "train" and "identity" in sample.meta:
            self.identities.add(str(sample.meta["identity"]))

    def commit(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Close the shards, write the manifest, and put the set in place of `out`."""
        for split in list(self._open):
            self._close(split)
        splits = {
            split: {"samples": counts.total(), "kinds": dict(sorted(counts.items()))}
            for split, counts in sorted(self.counts.items())
        }
        manifest = {"schema": SCHEMA, **facts, "splits": splits, "shards": self.shards}
        manifest["heldout_identities"] = sorted(self.identities)
        write_json(self.building / MANIFEST, manifest)
        old = self.out.parent / f".{self.out.name}.old"
        shutil.rmtree(old, ignore_errors=True)
        if self.out.exists():
            self.out.rename(old)
        self.building.rename(self.out)
        for path in old.glob("*"):  # what is no part of a shard set is the user's, keep it
            if path.suffix != ".tar" and path.name != MANIFEST:
                path.rename(self.out / path.name)
        shutil.rmtree(old, ignore_errors=True)
        return manifest

    def _ours(self) -> bool:
        return (self.out / MANIFEST).is_file() or not any(self.out.iterdir())

    def _writer(self, split: str) -> tuple[str, TarWriter]:
        if split in self._open:
            name, writer, _ = self._open[split]
            shard = self.shards[name]
            if shard["samples"] < self.shard_samples and shard["bytes"] < self.shard_bytes:
                return name, writer
            self._close(split)
        number = sum(name.rpartition("-")[0] == split for name in self.shards)
        name = f"{split}-{number:06d}.tar"
        file = (self.building / name).open("wb")
        # a fixed time makes equal samples equal files, so that checksums mean something
        self._open[split] = (name, TarWriter(file, encoder=False, mtime=0), file)
        self.shards[name] = {"samples": 0, "bytes": 0, "sha256": ""}
        return name, self._open[split][1]

    def _close(self, split: str) -> None:
        name, writer, file = self._open.pop(split)
        writer.close()
        file.flush()
        os.fsync(file.fileno())
        file.close()
        path = self.building / name
        self.shards[name]["bytes"] = path.stat().st_size
        self.shards[name]["sha256"] = sha256(path)


def write_shards(samples: Iterable[Sample], out: str | Path, **facts: Any) -> dict[str, Any]:
    """Write samples as one set of shards at `out`, replacing any; return the manifest."""
    with ShardSet(Path(out)) as shards:
        for sample in samples:
            shards.add(sample)
        return shards.commit(facts)
