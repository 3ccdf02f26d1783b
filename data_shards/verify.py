"""`omni-shards verify`: read everything again, as hostile input."""

from collections.abc import Callable, Iterator
from pathlib import Path

from omni.media.decode import MediaError, load_audio, load_image

from .index.sidecar import read_sidecar
from .read.entry import Bad, read_shard
from .shards.manifest import read_manifest, sha256
from .shards.sample import Sample


def verify(folder: Path, on_sample: Callable[[Sample], None] = lambda _: None) -> Iterator[Bad]:
    """Yield everything that is wrong with a set of shards; `on_sample` sees each intact sample.

    Checks the checksums and counts of the manifest and of the index, every tar header and json
    part, decodes all media under the limits, and that no identity is in both splits.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        yield Bad(str(folder), "", 0, "no manifest.json: not a finished build")
    listed = manifest["shards"] if manifest else {}
    side = read_sidecar(folder)
    present = {path.name: path for path in sorted(folder.glob("*.tar"))}
    for name in sorted(listed.keys() - present.keys()):
        yield Bad(name, "", 0, "listed in the manifest but missing")
    seen: dict[str, str] = {}  # identity -> split
    for name, path in present.items():
        found: list[Bad] = []
        if manifest and name not in listed:
            yield Bad(name, "", 0, "not in the manifest")
        elif manifest and sha256(path) != listed[name]["sha256"]:
            yield Bad(name, "", 0, "its checksum is not that of the manifest")
        count = 0
        for sample in read_shard(path, found.append, side.checksums(name) if side else {}):
            count += 1
            reason = media_error(sample) or _leak(sample, seen)
            if reason:
                found.append(Bad(name, sample.key, 0, reason))
            else:
                on_sample(sample)
        yield from found
        if name in listed and count != listed[name]["samples"] and not found:
            wanted = listed[name]["samples"]
            yield Bad(name, "", 0, f"{count} samples, the manifest says {wanted}")


def media_error(sample: Sample) -> str:
    """Decode all media of a sample; return what is wrong, or "" if nothing is."""
    for kind, ref in sample.refs():
        load = {"image": load_image, "audio": load_audio}.get(kind)
        try:
            if load:
                load(sample.parts[ref])
        except MediaError as error:
            return f"{ref}: {error}"
    return ""


def _leak(sample: Sample, seen: dict[str, str]) -> str:
    identity = sample.meta.get("identity")
    if not identity:
        return ""
    mine = "train" if sample.split == "train" else "heldout"
    split = seen.setdefault(str(identity), mine)
    return "" if split == mine else f"identity {identity!r} is in {split} too"
