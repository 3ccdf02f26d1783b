"""The manifest of a set of shards: what was built, from what, with which checksums."""

import hashlib
import json
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


def sha256(path: Path) -> str:
    """Return the hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
