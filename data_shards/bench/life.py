"""What is read, and how it is known again, where benches kill readers or change their number."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..index.index import Index
from ..plan.plan import Plan, PlanConfig
from .data import MEDIA, Bare, write

if TYPE_CHECKING:
    from ..read.batch import Batch

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


def digest(batch: "Batch") -> str:
    """Hash everything that a batch holds: tokens, labels, pixels, samples, keys."""
    found = hashlib.sha256()
    has = batch.tensors
    for tensor in (has["input_ids"], has["labels"], *has["pixels"], *has["samples"]):
        found.update(str(tuple(tensor.shape)).encode())
        found.update(tensor.numpy().tobytes())
    # rows say in which folder their shards lie; keys say which they are
    facts = [batch.step, batch.pack, batch.counts, asdict(batch.documents)]
    found.update(json.dumps(facts, sort_keys=True).encode())
    return found.hexdigest()[:16]


def load(path: Path) -> Any:
    """Read a json file, None if it is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
