"""`omni-shards verify`: read everything again, as hostile input."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from omni.media.decode import MediaError, load_audio, load_image
from omni.media.video import LIMITS, load_sound, scan_video, show_frames, video_times

from .index.sidecar import read_sidecar
from .read.entry import Bad, read_shard
from .shards.manifest import read_manifest, sha256
from .shards.sample import MAX_JSON_BYTES, META, Sample
from .shards.shard import Entry, group, mapped
from .sources.formats.attachments import kind_of

Note = Callable[[str], None]


def verify(
    folder: Path,
    on_sample: Callable[[Sample], None] = lambda _: None,
    on_note: Note = lambda _: None,
) -> Iterator[Bad]:
    """Yield everything that is damaged in a set of shards; `on_sample` sees each intact sample.

    Checks the checksums and counts of the manifest and of the index, every tar header and json
    part, decodes all media under the limits, and that no identity is in both splits. What shards
    of other makers lack is no damage: at the end `on_note` gets a line on each such thing.

    Raises:
        FileNotFoundError: there is no shard, nor a manifest that names one.
        ValueError: the manifest cannot be understood.
    """
    manifest, side = read_manifest(folder), read_sidecar(folder)
    listed = manifest["shards"] if manifest else {}
    present = {path.name: path for path in sorted(folder.glob("*.tar"))}
    if not present and not listed:
        raise FileNotFoundError(f"{folder} holds no .tar file")
    for name in sorted(listed.keys() - present.keys()):
        yield Bad(name, "", 0, "listed in the manifest but missing")
    seen: dict[str, str] = {}  # identity -> split
    lacks: Counter[str] = Counter()
    for name, path in present.items():
        found: list[Bad] = []
        if manifest and name not in listed:
            yield Bad(name, "", 0, "not in the manifest")
        elif manifest and sha256(path) != listed[name]["sha256"]:
            yield Bad(name, "", 0, "its checksum is not that of the manifest")
        if foreign := not manifest and _is_foreign(path):
            samples = _read_foreign(path, found.append)
        else:
            samples = read_shard(path, found.append, side.checksums(name) if side else {})
        count = 0
        for sample in samples:
            count += 1
            lacks.update(_lacks(sample, foreign))
            if reason := media_error(sample) or _leak(sample, seen):
                found.append(Bad(name, sample.key, 0, reason))
            else:
                on_sample(sample)
        yield from found
        if name in listed and count != listed[name]["samples"] and not found:
            wanted = listed[name]["samples"]
            yield Bad(name, "", 0, f"{count} samples, the manifest says {wanted}")
    for line in _notes(folder, manifest is not None, side is not None, lacks):
        on_note(line)


def media_error(sample: Sample) -> str:
    """Decode every medium of a sample, shown or not; return what is wrong, or ""."""
    kinds: dict[str, str | None] = {name: kind_of(name) for name in sample.parts}
    kinds |= {ref: kind for kind, ref in sample.refs()}
    for name, kind in kinds.items():
        try:
            if kind:
                DECODERS[kind](sample.parts[name])
        except MediaError as error:
            return f"{name}: {error}"
    return ""


def _decode_video(data: bytes) -> None:
    """Decode the sound, and all frames, one at a time: more are asked for than there can be.

    Of containers that do not count their frames, what is lost is known from FFmpeg's log alone.
    """
    import av

    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as errors:
            scan = scan_video(data)
            times = video_times(len(scan.pts), scan.rate, 1e6, LIMITS.max_frames)
            for _ in show_frames(data, scan, times):
                pass
            if scan.sound[1] > scan.sound[0]:
                load_sound(data, scan)
    finally:
        av.logging.set_level(level)
    if errors:
        _, where, text = errors[0]
        raise MediaError(f"damaged: {text.strip()} ({where})")


DECODERS: dict[str, Callable[[bytes], object]] = {
    "image": load_image, "audio": load_audio, "video": _decode_video,
}  # fmt: skip


def _leak(sample: Sample, seen: dict[str, str]) -> str:
    identity = sample.meta.get("identity")
    if not identity:
        return ""
    mine = "train" if sample.split == "train" else "heldout"
    split = seen.setdefault(str(identity), mine)
    return "" if split == mine else f"identity {identity!r} is in {split} too"


def _is_foreign(path: Path) -> bool:
    """Tell whether a shard holds samples of which none is, or may have been, a conversation."""
    with mapped(path) as archive:
        entries, _ = group(path, archive, conversations=False)
        return bool(entries) and not any(_may_talk(_json(entry, archive)) for entry in entries)


def _json(entry: Entry, archive: np.ndarray) -> bytes | None:
    for part in entry.parts:
        if part.name == "json":
            return archive[part.offset : part.offset + min(part.size, MAX_JSON_BYTES)].tobytes()
    return None


def _may_talk(raw: bytes | None) -> bool:
    if raw is None:
        return False
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):
        return True  # broken, so nobody can say
    return isinstance(row, dict) and "messages" in row


def _read_foreign(path: Path, on_bad: Callable[[Bad], None]) -> Iterator[Sample]:
    """Yield samples without messages, as webdataset would; `on_bad` is called with damage."""
    with mapped(path) as archive:
        entries, damage = group(path, archive, conversations=False)
        for bad in damage:
            on_bad(bad)
        for entry in entries:
            parts = {p.name: archive[p.offset : p.offset + p.size].tobytes() for p in entry.parts}
            yield Sample([], parts, {}, entry.key, path.stem.rpartition("-")[0] or "train")


def _lacks(sample: Sample, foreign: bool) -> list[str]:
    if foreign:
        return ["messages"]
    lacks = [name for name in META if name not in sample.meta]
    return ["meta", *lacks] if lacks else []


def _notes(folder: Path, manifest: bool, index: bool, lacks: Counter[str]) -> Iterator[str]:
    if not manifest:
        yield "no manifest.json: whether all shards are there, and as they were written, is unknown"
    if not index:
        yield f"no index, so no checksums of parts: `omni-shards index {folder}` makes one"
    if count := lacks.pop("messages", 0):
        yield (
            f"{count:,} samples are no conversations (a json part with 'messages'), so they cannot "
            f"be trained on as they are: `omni-shards build webdataset --data {folder}` reads them"
        )
    if count := lacks.pop("meta", 0):
        yield f"{count:,} samples do not say their {', '.join(sorted(lacks))} in 'meta'"
