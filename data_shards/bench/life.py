"""What is read, and how it is known again, where benches kill readers or change their number."""

import hashlib
import json
from pathlib import Path
from typing import Any

from ..index.index import Index
from ..plan.plan import Plan, PlanConfig
from .data import MEDIA, Bare, write

SOURCES = {"both": MEDIA, "pictures": ("image",), "sounds": ("audio",), "text": ()}
MIXTURE = {"both": 0.4, "pictures": {0: 0.3, 5: 0.2}, "sounds": {0: 0.2, 5: 0.3}, "text": 0.1}


def write_sources(folder: Path, count: int) -> Path:
    """Write `count` samples of each kind of media under `folder`, not indexed yet."""
    for seed, (name, media) in enumerate(SOURCES.items()):
        write(folder / name, count, seed, max(1, count // 3), media=media)
    return folder


def plan_of(folder: Path, packs_per_step: int) -> Plan:
    """Plan a weighted, scheduled mixture of those, packed by best fit."""
    processor = Bare()
    indices = {name: Index.open(folder / name) for name in SOURCES}
    lengths = {name: index.lengths(processor) for name, index in indices.items()}
    config = PlanConfig(MIXTURE, seed=7, packs_per_step=packs_per_step, max_tokens=512, window=48)
    return Plan(indices, config, lengths)


def digest(batch: dict[str, Any]) -> str:
    """Hash everything that a batch holds: tokens, labels, pixels, samples, keys."""
    found = hashlib.sha256()
    for tensor in (batch["input_ids"], batch["labels"], *batch["pixels"], *batch["samples"]):
        found.update(str(tuple(tensor.shape)).encode())
        found.update(tensor.numpy().tobytes())
    # documents say in which folder their shards lie; keys say which they are
    meta = {name: told for name, told in batch["meta"].items() if name != "documents"}
    found.update(json.dumps(meta, sort_keys=True).encode())
    return found.hexdigest()[:16]


def load(path: Path) -> Any:
    """Read a json file, None if it is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
