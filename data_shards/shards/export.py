"""`omni-shards export`: what other readers want beside the shards, which stay as they are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from omni.files.atomic import write_text

from .manifest import read_manifest
from .shard import scan_shard

# split of ours -> of Energon, which knows three
ENERGON_SPLITS = {"train": "train", "heldout": "val"}
COOKER = "energon_cooker.py"
IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")


Shards = dict[str, tuple[list[str], set[str]]]  # file name -> (keys, names of parts)


class ExportError(ValueError):
    """The shards cannot be read by the other reader; the text says why and what to do."""


def export(folder: Path, to: str) -> list[Path]:
    """Write what a reader needs beside the shards of `folder`; return the files written.

    Args:
        folder: a set of shards.
        to: one of EXPORTS.

    Raises:
        ExportError: no shard there, or something that the reader would refuse.
    """
    shards: Shards = {}
    for path in sorted(folder.glob("*.tar")):
        entries, bad = scan_shard(path)
        if bad:
            more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
            raise ExportError(
                f"{bad[0]}{more}; other readers lose good samples after damage without a word. "
                "Build these shards again"
            )
        names = {part.name for entry in entries for part in entry.parts}
        shards[path.name] = [entry.key for entry in entries], names
    if not shards:
        raise ExportError(f"{folder} holds no shard")
    texts = EXPORTS[to](folder, shards)
    for path, text in texts.items():
        path.parent.mkdir(exist_ok=True)
        write_text(path, text)
    return list(texts)


def _splits(shards: Shards) -> dict[str, list[str]]:
    """Group the names of shards by split."""
    splits: dict[str, list[str]] = {}
    for name in shards:
        splits.setdefault(name.rpartition("-")[0] or "train", []).append(name)
    return splits


def _energon(folder: Path, shards: Shards) -> dict[Path, str]:
    """Write the folder .nv-meta but for its index, which `energon prepare` makes, and a cooker."""
    seen: dict[str, str] = {}
    for name, (keys, _) in shards.items():
        for key in keys:
            if key in seen:
                raise ExportError(
                    f"key {key!r} is in {seen[key]} and in {name}; Energon wants keys that are "
                    "unique in the folder. Build again with --force"
                )
            seen[key] = name
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for split, names in _splits(shards).items():
        parts[ENERGON_SPLITS.get(split, "test")] += names
    counts = {name: len(keys) for name, (keys, _) in shards.items()}
    dataset = {"__module__": "megatron.energon", "__class__": "CrudeWebdataset"}
    split = {"split_parts": parts, "exclude": []}
    info = {"energon_version": None, "shard_counts": counts}
    meta = folder / ".nv-meta"
    return {
        meta / "dataset.yaml": yaml.safe_dump(dataset),
        meta / "split.yaml": yaml.safe_dump(split, sort_keys=False),
        meta / ".info.json": json.dumps(info, indent=1),
        folder / COOKER: Path(__file__).with_name("energon.py").read_text(encoding="utf-8"),
    }


def _hf(folder: Path, shards: Shards) -> dict[Path, str]:
    """Write the features into the head of README.md; the rest of a README is left alone.

    Without features HF refuses sets in which one sample has an image and the next has two.
    Audio and video are bytes: HF's own types need torchcodec even to be loaded.
    """
    names = sorted({name for _, names in shards.values() for name in names})
    kinds = {"__key__": "string", "__url__": "string", "json": "json"}
    for name in names:
        image = name.rpartition(".")[2].lower() in IMAGES
        kinds.setdefault(name, "image" if image else "binary")
    features = [{"name": name, "dtype": kind} for name, kind in kinds.items()]
    files = [
        {"split": split.replace("-", "_"), "path": [*found]}
        for split, found in _splits(shards).items()
    ]
    path = folder / "README.md"
    head, body = _front(path)
    head["configs"] = [{"config_name": "default", "data_files": files}]
    head["dataset_info"] = {"features": features}
    if not body.strip():
        licences = (read_manifest(folder) or {}).get("licenses", {})
        lines = [f"- licence of {name}: {licence}" for name, licence in licences.items()]
        body = "\n".join([BODY, *lines, ""])
    return {path: f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n{body}"}


BODY = """
Tar shards of conversations, one sample per key: `json` holds `messages`, whose media parts name
the other files of the sample. The features stand in the head of this file:

    datasets.load_dataset(FOLDER, split="train", streaming=True)
"""


def _front(path: Path) -> tuple[dict[str, Any], str]:
    """Return the YAML head and the body of a README; both empty where there is none."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if not text.startswith("---\n"):
        return {}, text
    head, found, body = text[4:].partition("\n---\n")
    try:
        values = yaml.safe_load(head) if found else None
    except yaml.YAMLError as error:
        raise ExportError(f"the head of {path} is not YAML: {error}") from error
    return (values, body) if isinstance(values, dict) else ({}, text)


EXPORTS: dict[str, Callable[[Path, Shards], dict[Path, str]]] = {
    "energon": _energon,
    "hf": _hf,
}
