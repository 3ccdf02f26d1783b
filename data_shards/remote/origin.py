"""Where shards come from: the manifests beside them, on a disk or behind URLs."""

import hashlib
from pathlib import Path
from typing import Any

from ..shards.manifest import MANIFEST, parse_manifest
from ..shards.shard import Patterns, find_shards
from .files import RemoteError, beside, find, is_url, read_bytes


def manifests(patterns: Patterns) -> dict[str, dict[str, Any]]:
    """Return the manifests of the folders that hold these shards, by a digest of their bytes.

    Raises:
        FileNotFoundError, RemoteError: a pattern that matches nothing.
        ValueError: a manifest that cannot be understood.
    """
    given = [patterns] if isinstance(patterns, str | Path) else [*patterns]
    local = [ref for ref in given if not is_url(ref)]
    folders = sorted({path.parent for path in find_shards(local)}) if local else []
    texts = {str(f / MANIFEST): (f / MANIFEST).read_bytes() for f in folders
             if (f / MANIFEST).is_file()}  # fmt: skip
    urls = [url for ref in given if is_url(ref) for url in find(str(ref))]
    for url in sorted({beside(url, MANIFEST) for url in urls}):
        try:
            texts[url] = read_bytes(url)
        except RemoteError as error:
            if not error.missing:
                raise
    return {
        hashlib.sha256(text).hexdigest()[:16]: parse_manifest(text, place)
        for place, text in texts.items()
    }
