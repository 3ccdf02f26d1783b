"""How Megatron-Energon reads shards of conversations; a copy lies beside exported shards.

from energon_cooker import Encoder
from megatron.energon import WorkerConfig, get_loader, get_train_dataset

options = {"shuffle_buffer_size": 100, "max_samples_per_sequence": 100, "batch_size": None}
workers = WorkerConfig.default_worker_config(2)
data = get_train_dataset(FOLDER, worker_config=workers, task_encoder=Encoder(), **options)
for conversation in get_loader(data): ...
"""

import json
from typing import Any

from megatron.energon import (  # pyright: ignore[reportMissingImports]
    Cooker,
    DefaultTaskEncoder,
    Sample,
    SampleDecoder,
    basic_sample_keys,
    edataclass,
    stateless,
)


@edataclass
class Conversation(Sample):
    """Chat messages with media in place of their file names; a preference has two answers."""

    messages: list[dict[str, Any]]
    meta: dict[str, Any]
    chosen: list[dict[str, Any]] | None = None
    rejected: list[dict[str, Any]] | None = None


def _bind(messages: list[dict[str, Any]] | None, raw: dict[str, Any]) -> Any:
    if messages is None:
        return None
    bound = []
    for message in messages:
        parts = [
            part if part["type"] == "text" else {**part, part["type"]: raw[part[part["type"]]]}
            for part in message["content"]
        ]
        bound.append({**message, "content": parts})
    return bound


@stateless
def cook(raw: dict[str, Any]) -> Conversation:
    """Turn the files of one sample into a conversation."""
    row = raw["json"] if isinstance(raw["json"], dict) else json.loads(raw["json"])
    lists = {name: _bind(row.get(name), raw) for name in ("messages", "chosen", "rejected")}
    return Conversation(**basic_sample_keys(raw), meta=row.get("meta") or {}, **lists)


class Encoder(DefaultTaskEncoder):
    """Decodes images to PIL, sound to AVDecoder (extra av_decode); extend it to make batches."""

    decoder = SampleDecoder(image_decode="pilrgb")
    cookers = [Cooker(cook)]  # noqa: RUF012 - Energon's own way
