"""Write a set of shards with its manifest: all of it appears at once, or nothing does."""

import io
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from omni.files.atomic import flush, write_json

from .journal import JOURNAL, Journal
from .manifest import MANIFEST, sha256
from .sample import SCHEMA, Sample, SampleError, check

SHARD_SAMPLES = 10_000
SHARD_BYTES = 256 << 20
LAST_ROW = 1 << 62
# what a set holds beside its shards and would be wrong beside others
MADE = (MANIFEST, JOURNAL, ".data_shards", ".nv-meta")


class ShardSet:
    """A set of shards in the making; use as a context manager, then `commit`.

    Samples go to `<split>-NNNNNN.tar` in a folder beside `out`, which is renamed to `out` by
    `commit`. Whatever is left there by an earlier, interrupted build is removed first, unless
    `request` says what is built: then finished shards of the same request are kept, by a Journal.
    """

    def __init__(
        self,
        out: Path,
        shard_samples: int = SHARD_SAMPLES,
        shard_bytes: int = SHARD_BYTES,
        request: dict[str, Any] | None = None,
    ):
        self.out, self.request = out, request
        self.building = out.parent / f".{out.name}.building"
        self.old = out.parent / f".{out.name}.old"
        self.shard_samples, self.shard_bytes = shard_samples, shard_bytes
        self.shards: dict[str, dict[str, Any]] = {}
        self.journal: Journal | None = None
        self._count: Counter[str] = Counter()  # samples, by split
        self._keys: set[str] = set()
        self._open: dict[str, tuple[str, tarfile.TarFile, BinaryIO]] = {}
        self._skipped: dict[str, list[tuple[int, str]]] = {}  # of no finished shard yet

    def __enter__(self) -> "ShardSet":
        self._settle()
        if self.out.exists() and not (self.out.is_dir() and self._ours()):
            raise FileExistsError(
                f"{self.out} exists and holds something other than shards; choose another folder"
            )
        if self.request is None:
            shutil.rmtree(self.building, ignore_errors=True)
            self.building.mkdir(parents=True)
        else:
            self.journal = Journal(self.building, self.request)
            self.shards = dict(self.journal.shards)
            for shard in self.shards.values():
                self._count[shard["split"]] += shard["samples"]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for _, _, file in self._open.values():
            file.close()
        self._open.clear()
        if self.journal is None or not self.journal.shards:
            self.discard()

    def discard(self) -> None:
        """Remove what was written so far."""
        shutil.rmtree(self.building, ignore_errors=True)

    def next_row(self, split: str) -> int:
        """Return the first row of a split that no finished shard accounts for."""
        return self.journal.next_row(split) if self.journal else 0

    def add(self, sample: Sample, row: int = 0) -> None:
        """Write one sample; a sample without a key gets its number within the split as one.

        Keys are unique in the whole set: Energon refuses to index one that comes twice.

        `row` is its place in the source; rows of a split come in order.

        Raises:
            SampleError, MessageError: it breaks the contract, or its key was used before.
        """
        split = sample.split
        number = f"{self._count[split]:08d}"
        sample.key = sample.key or (number if split == "train" else f"{split}-{number}")
        check(sample)
        if sample.key in self._keys:
            raise SampleError(f"key {sample.key!r} was already written")
        data = sample.to_json()
        self._keys.add(sample.key)
        name, archive = self._archive(split, row)
        for part, content in (("json", data), *sorted(sample.parts.items())):
            info = tarfile.TarInfo(f"{sample.key}.{part}")  # no time: equal samples, equal files
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        self._count[split] += 1
        shard, kind = self.shards[name], str(sample.meta.get("kind", "conversation"))
        shard["samples"], shard["bytes"] = shard["samples"] + 1, archive.offset
        shard["kinds"][kind] = shard["kinds"].get(kind, 0) + 1
        if split != "train" and "identity" in sample.meta:
            shard["identities"][str(sample.meta["identity"])] = 1

    def skip(self, split: str, row: int, reason: str) -> None:
        """Note a row that made no sample."""
        self._skipped.setdefault(split, []).append((row, reason))

    def skipped(self) -> list[str]:
        """Return the reason of every row that made no sample, in order of the rows."""
        lists = [*(shard["skipped"] for shard in self.shards.values()), *self._skipped.values()]
        return [reason for _, reason in sorted(tuple(row) for rows in lists for row in rows)]

    def close(self) -> None:
        """Close the shards that are open, after the last sample."""
        for split in list(self._open):
            self._close(split, LAST_ROW)

    def commit(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Close the shards, write the manifest, and put the set in place of `out`."""
        self.close()
        splits: dict[str, Any] = {}
        for shard in self.shards.values():
            found = splits.setdefault(shard["split"], {"samples": 0, "kinds": Counter()})
            found["samples"] += shard["samples"]
            found["kinds"].update(shard["kinds"])
        for found in splits.values():
            found["kinds"] = dict(sorted(found["kinds"].items()))
        manifest = {"schema": SCHEMA, **facts, "splits": dict(sorted(splits.items()))}
        manifest["shards"] = {
            name: {key: shard[key] for key in ("samples", "bytes", "sha256")}
            for name, shard in sorted(self.shards.items())
        }
        manifest["heldout_identities"] = sorted(
            {identity for shard in self.shards.values() for identity in shard["identities"]}
        )
        write_json(self.building / MANIFEST, manifest)
        if self.out.exists():
            self.out.rename(self.old)
        self.building.rename(self.out)
        (self.out / JOURNAL).unlink(missing_ok=True)
        self._settle()
        return manifest

    def _settle(self) -> None:
        """Finish replacing an old set, even where a kill came between two renames."""
        if not self.old.exists():
            return
        if not self.out.exists():
            self.old.rename(self.out)
            return
        for path in self.old.glob("*"):  # what is no part of a shard set is the user's, keep it
            made = path.suffix == ".tar" or path.name.endswith(".tar.idx") or path.name in MADE
            if not made and not (self.out / path.name).exists():
                path.rename(self.out / path.name)
        shutil.rmtree(self.old, ignore_errors=True)

    def _ours(self) -> bool:
        return (self.out / MANIFEST).is_file() or not any(self.out.iterdir())

    def _archive(self, split: str, row: int) -> tuple[str, tarfile.TarFile]:
        if split in self._open:
            name, archive, _ = self._open[split]
            shard = self.shards[name]
            if shard["samples"] < self.shard_samples and shard["bytes"] < self.shard_bytes:
                return name, archive
            self._close(split, row)
        number = sum(shard["split"] == split for shard in self.shards.values())
        name = f"{split}-{number:06d}.tar"
        file = (self.building / name).open("wb")
        archive = tarfile.TarFile(fileobj=file, mode="w", format=tarfile.GNU_FORMAT)
        self._open[split] = (name, archive, file)
        self.shards[name] = {
            **{"split": split, "samples": 0, "bytes": 0, "sha256": "", "next_row": 0},
            **{"kinds": {}, "identities": {}, "skipped": []},
        }
        return name, archive

    def _close(self, split: str, next_row: int) -> None:
        name, archive, file = self._open.pop(split)
        archive.close()
        file.close()
        path, shard = self.building / name, self.shards[name]
        flush(path)
        shard["bytes"], shard["sha256"] = path.stat().st_size, sha256(path)
        shard["next_row"], shard["skipped"] = next_row, self._skipped.pop(split, [])
        if self.journal:
            self.journal.finish(name, shard)


def write_shards(samples: Iterable[Sample], out: str | Path, **facts: Any) -> dict[str, Any]:
    """Write samples as one set of shards at `out`, replacing any; return the manifest."""
    with ShardSet(Path(out)) as shards:
        for sample in samples:
            shards.add(sample)
        return shards.commit(facts)
