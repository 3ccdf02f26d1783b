"""Pictures with a category, each once, out of a folder of shards."""

from pathlib import Path

from ...read.entry import read_shard
from ...shards.manifest import read_manifest
from ...shards.sample import Sample
from ..base import Build, SourceError


def captioned(folder: Path, option: str, build: Build) -> dict[str, list[Sample]]:
    """Return one sample of every picture of a set of shards, by split, train and heldout.

    Raises:
        SourceError: they have no manifest, or no training sample has a picture and a category;
            names `option`, which gave the folder.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise SourceError(f"{option} {folder}: no manifest.json there; build the images first")
    build.licenses.update(manifest.get("licenses", {}))
    found: dict[str, list[Sample]] = {"train": [], "heldout": []}
    for split, samples in found.items():
        seen: set[bytes] = set()
        for shard in sorted(folder.glob(f"{split}-[0-9]*.tar")):
            for sample in read_shard(shard, lambda bad: build.skip(str(bad), "left out")):
                if "category" not in sample.meta or len(sample.parts) != 1:
                    build.skip(sample.where, "no single image with a category")
                elif (data := next(iter(sample.parts.values()))) not in seen:
                    seen.add(data)
                    samples.append(sample)
    if not found["train"]:
        raise SourceError(
            f"{option} {folder}: no training sample there has an image and a category"
        )
    return found
