"""The record of steps that failed: what each was made of, and the culprits; json lines."""

from collections.abc import Mapping
from typing import Any

from data_shards.read.batch import Batch


def describe_documents(batch: Batch, modalities: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Describe a pack's documents: sample, source, tokens, labels, files, tokens by modality."""
    of, ids, begin, rows = batch.documents, batch.tensors["input_ids"][0], 0, []
    facts = zip(of.sample, of.keys, of.sources, of.lengths, of.labels, strict=True)
    for sample, key, source, length, labels in facts:
        own = ids[begin : begin + length]
        begin += length
        rows.append({
            "sample": key, "source": source, "tokens": length, "labels": labels,
            "files": len(batch.rows[sample].entry.parts) - 1,  # beside the json
            "modalities": {name: int((own == spec["token_id"]).sum())
                           for name, spec in modalities.items()},
        })  # fmt: skip
    return rows
