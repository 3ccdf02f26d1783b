"""What a stage compares with: log-probabilities under the model it starts from, computed once."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from data_shards.plan.plan import Plan
from data_shards.read.batch import Row, rows_of
from data_shards.read.loader import Loader
from data_shards.shards.rendering import Rendering
from data_shards.shards.shard import Bad
from omni.features.cache import weights_hash
from omni.files.atomic import write_json
from omni.files.jsonl import append_lines, read_lines

from ..engine.distribute import to_device
from ..objectives import kind_of, objective_class
from ..objectives.base import split_numbers
from ..objectives.dpo import reference_of
from ..objectives.preference import REFERENCE
from ..recipe.schema import Recipe, StageConfig


class Reference:
    """Log-probabilities of samples' documents, by source and row.

    Those of a source lie in FOLDER/KEY, where KEY is a digest of all that they follow from: so
    what is read is never of other weights, another processor or other shards. Every process
    appends to a file of its own; a kill loses no line that is complete.

    Args:
        folder: of all of them.
        about: source -> what its log-probabilities follow from.
    """

    names: tuple[str, ...] = (REFERENCE,)

    def __init__(self, folder: Path, about: Mapping[str, Mapping[str, Any]]):
        self.folders = {name: folder / _digest(facts) for name, facts in about.items()}
        self._about, self._values = about, {name: {} for name in about}

    def read(self) -> None:
        """Read what all processes have written."""
        for name, folder in self.folders.items():
            for path in sorted(folder.glob("*.jsonl")):
                self._values[name] |= {line["row"]: line["logps"] for line in read_lines(path)}

    def __call__(self, row: Row) -> list[dict[str, float]] | None:
        """Return the numbers of each document of a sample, None where it was not scored."""
        found = self._values[row.item.source].get(row.item.row)
        return found and [{REFERENCE: value} for value in found]

    def write(self, rank: int, rows: Sequence[Row], logps: Sequence[list[float]]) -> None:
        """Append the log-probabilities of some samples."""
        for name, folder in self.folders.items():
            mine = [{"row": row.item.row, "logps": values}
                    for row, values in zip(rows, logps, strict=True)
                    if row.item.source == name]  # fmt: skip
            if mine:
                append_lines(folder / f"rank-{rank}.jsonl", mine)

    def describe(self) -> None:
        """Write beside each source's what it follows from."""
        for name, folder in self.folders.items():
            write_json(folder / "about.json", {"source": name, **self._about[name]})


def stores_reference(recipe: Recipe, stage: StageConfig) -> bool:
    """Tell whether log-probabilities stand for the model that a stage compares with."""
    return recipe.reference == "stored" and objective_class(kind_of(stage.objective)).compares


def make_reference(
    folder: Path, model: Any, loader: Loader, rendering: Rendering, steps: int,
    accelerator: Accelerator,
) -> Reference:  # fmt: skip
    """Score all that the first steps of a plan draw, but for what was scored before.

    Args:
        folder: where log-probabilities are kept.
        model: as the stage finds it; is left in evaluation mode on the accelerator's device.
        loader: over the stage's plan.
        rendering: which documents a sample becomes.
        steps: how many.
        accelerator: knows the ranks, which share the work and the disk.

    Raises:
        FloatingPointError: names a sample with a log-probability that is not finite.
    """
    model.to(accelerator.device).eval()
    reference = Reference(folder, _about(model, loader, rendering, accelerator))
    reference.read()
    if accelerator.is_main_process:
        reference.describe()
    accelerator.wait_for_everyone()  # all know the same before any adds to it
    rank, ranks = accelerator.process_index, accelerator.num_processes
    packs = [*_missing(reference, loader.plan, steps)]
    accelerator.print(f"reference: {sum(map(len, packs))} samples to score, in {folder}")
    jobs = ((rows, rows) for rows in packs[rank::ranks])
    reader: Any = loader.reader
    for rows, found in reader.run(jobs):
        good = [(row, e) for row, e in zip(rows, found, strict=True) if not isinstance(e, Bad)]
        if good:
            documents = [document for _, sample in good for document in sample]
            batch, _ = split_numbers(loader.processor.pack(documents), rendering.told)
            batch = to_device(batch, accelerator.device, model.host_inputs())
            with accelerator.autocast():
                logps = reference_of(model, batch).logps[: len(good)].tolist()
            scored = [row for row, _ in good]
            _check_finite(scored, logps)
            reference.write(rank, scored, logps)
    accelerator.wait_for_everyone()
    reference.read()
    return reference


def _missing(reference: Reference, plan: Plan, steps: int) -> Iterator[list[Row]]:
    """Yield the samples of each pack that are not scored, each sample once."""
    seen: set[tuple[str, int]] = set()
    for step in islice(plan.steps(), steps):
        for pack in step.packs:
            rows = [row for row in rows_of(plan, pack)
                    if (row.item.source, row.item.row) not in seen
                    and reference(row) is None]  # fmt: skip
            seen.update((row.item.source, row.item.row) for row in rows)
            if rows:
                yield rows


def _check_finite(rows: Sequence[Row], logps: Sequence[list[float]]) -> None:
    for row, values in zip(rows, logps, strict=True):
        if not all(map(math.isfinite, values)):
            raise FloatingPointError(
                f"{row.entry.where}: the model that the stage starts from gives its answers the "
                f"log-probabilities {values}: look at the sample, or at the checkpoint"
            )


def _about(
    model: Any, loader: Loader, rendering: Rendering, accelerator: Accelerator
) -> dict[str, dict[str, Any]]:
    """Return, by source, all that log-probabilities follow from."""
    processor: Any = loader.processor
    facts = {
        "weights": weights_hash(model), "processor": processor.fingerprint,
        "modalities": processor.modalities, "rendering": rendering.name,
        "arithmetic": [accelerator.device.type, accelerator.mixed_precision, str(model.dtype),
                       torch.__version__],
    }  # fmt: skip
    return {name: {**facts, "shards": index.hash} for name, index in loader.plan.sources.items()}


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
