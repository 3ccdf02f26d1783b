"""The manifest of a set of shards: what was built, from what, with which checksums."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


def sha256(path: Path) -> str:
    """Return the hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a file so that a kill leaves the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def write_json(path: Path, value: Any) -> None:
    """Write a json file, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False))


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a set of shards, or None where there is none.

    Raises:
        ValueError: the manifest is there but cannot be understood.
    """
    path = folder / MANIFEST
    return parse_manifest(path.read_bytes(), str(path)) if path.is_file() else None


def parse_manifest(text: bytes, place: str) -> dict[str, Any]:
    """Return the manifest that was read from `place`; raises ValueError as `read_manifest`."""
    try:
        manifest = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{place} is not json ({error}); rebuild with --force") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("shards"), dict):
        raise ValueError(f"{place} lists no shards; rebuild with --force")
    return manifest


def split_digest(manifest: dict[str, Any]) -> str:
    """Return a digest of what is held out: equal for two sets exactly when their splits are."""
    identities = json.dumps(sorted(manifest.get("heldout_identities", [])))
    return hashlib.sha256(identities.encode()).hexdigest()[:16]
