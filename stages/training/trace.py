"""The record of steps that failed: what each was made of, and who was to blame; json lines."""

from typing import Any

from omni.processing.processor import IGNORE_INDEX


def census(batch: dict[str, Any], modalities: dict[str, Any]) -> list[dict[str, Any]]:
    """Describe a pack's documents: sample, source, tokens, labels, files, tokens by modality."""
    ids, labels = batch["input_ids"][0], batch["labels"][0]
    starts = (batch["position_ids"][0] == 0).nonzero()[:, 0].tolist()
    rows = []
    for document, begin, end in zip(
        batch["meta"]["documents"], starts, [*starts[1:], len(ids)], strict=False
    ):
        rows.append({
            "sample": document.entry.where, "source": document.item.source, "tokens": end - begin,
            "labels": int((labels[begin:end] != IGNORE_INDEX).sum()),
            "files": len(document.entry.parts) - 1,  # beside the json
            "modalities": {name: int((ids[begin:end] == spec["token_id"]).sum())
                           for name, spec in modalities.items()},
        })  # fmt: skip
    return rows
