"""A look at a finished stage: held-out loss, what was forgotten of text, a few suite rows."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from data_shards.read.batch import Documents, modality
from data_shards.read.encode import Encode
from data_shards.read.entry import Bad, read_shard
from eval.rows.drift import text_drift
from eval.rows.own import MissingDataError
from eval.run import choose, run_suite
from eval.suites.registry import heldout_suite
from omni.encoders import encoder_class
from omni.files.atomic import write_json
from omni.files.jsonl import append_lines
from omni.load import load
from omni.media.decode import MediaError
from omni.processing.messages import MessageError
from omni.processing.processor import IGNORE_INDEX, Encoded, PlaceholderError

from ..objectives import kind_of, objective_class
from ..objectives.task import Task
from ..recipe.schema import Recipe, StageConfig, checkpoint_before, plan_config
from .asked import held_out_answers, heldout_shards, show_answers
from .prepare import extend, load_parent

SUITE = "mini"
BATCH = 8  # samples in a row of the held-out loss
SHOWS = {"blind": "image", "shuffled_images": "image", "shuffled_audio": "audio"}
"""the medium that a row's control changes, so that the row needs it"""


def probe_stage(recipe: Recipe, stage: StageConfig, target: Path, accelerator: Accelerator) -> None:
    """Write TARGET/probe.json of a finished stage, unless it is there, or probes are off.

    One rank measures, the others wait. What cannot be measured is named in it, under "missing".
    """
    settings = asdict(recipe.probes)
    del settings["every"]  # changes nothing that is measured here
    if not recipe.probes.heldout:  # as probes without it were written
        del settings["heldout"]
    if not recipe.probes.samples:
        return
    if accelerator.is_main_process and _probed(target) != settings:
        began = time.monotonic()
        result = {"settings": settings, **measure(recipe, stage, target, accelerator)}
        result["seconds"] = round(time.monotonic() - began, 1)
        write_json(target / "probe.json", result)
        row = {"event": "probe", "name": stage.name, **result}
        append_lines(Path(recipe.output) / "log.jsonl", [row])
        print(f"{stage.name}: {_summary(result)}", flush=True)
        show_answers(result["answers"])
    accelerator.wait_for_everyone()


def _probed(target: Path) -> dict[str, Any] | None:
    """Return the settings of the probe that there is."""
    path = target / "probe.json"
    return json.loads(path.read_text())["settings"] if path.is_file() else None


def _summary(result: dict[str, Any]) -> str:
    losses = [f"{name} {found['loss']:.3f}" for name, found in result["heldout"].items()]
    rows = [f"{r['name']} {r['score']:.1f} %" for r in result["rows"] if r["score"] is not None]
    return (
        f"held-out loss: {', '.join(losses) or 'none'}; text drift {result['text_drift']:.3f}; "
        f"{', '.join(rows) or 'no rows'}; {result['seconds']:.0f} s"
    )


def measure(
    recipe: Recipe, stage: StageConfig, target: Path, accelerator: Accelerator
) -> dict[str, Any]:
    """Probe a checkpoint.

    Returns:
        `heldout`: by modality, as the stage's objective sees it, the mean `loss` of `labels` label
        tokens in `documents`; `text_drift` from the LLM that the recipe starts from; `rows` of the
        mini-suite and of `probes.heldout`: name, score, n; `answers` to prompts that are the same
        after every stage; `missing`: what could not be measured, and why.
    """
    model, processor = load(target)
    model.to(accelerator.device).eval()  # type: ignore[arg-type]
    missing: list[str] = []
    shards = heldout_shards(recipe, stage.data.mixture, missing)
    limit = 0 if stage.rollout else plan_config(recipe, stage, 1).max_length or 0
    encode = Encode(processor, objective_class(kind_of(stage.objective)).rendering)
    samples = [*_encoded(shards, encode, recipe.probes.samples, limit, missing)]
    with accelerator.autocast():
        start = _start(recipe, stage, accelerator)
        losses = heldout_losses(model, processor, samples, stage.objective, start)
    started, _ = load_parent(recipe, None)
    drift = text_drift(model, started.language_model.to(accelerator.device), processor)
    del started
    rows = _rows(recipe, stage, model, processor, shards, missing)
    rows += _own_rows(recipe, stage, model, processor, missing)
    answers = held_out_answers(recipe, model, processor, missing)
    return {"objective": kind_of(stage.objective), "heldout": losses, "text_drift": drift,
            "rows": rows, "answers": answers, "missing": missing}  # fmt: skip


def _start(recipe: Recipe, stage: StageConfig, accelerator: Accelerator) -> Any:
    """Return the model as the stage found it, where its objective compares with that."""
    if not objective_class(kind_of(stage.objective)).compares:
        return None
    set_seed(recipe.seed)  # as the stage did, for what it attached
    model, processor = load_parent(recipe, checkpoint_before(recipe, stage))
    extend(model, processor, stage)
    return model.to(accelerator.device).eval()  # type: ignore[arg-type]


def _encoded(
    shards: dict[str, list[Path]], encode: Encode, count: int, limit: int, missing: list[str]
) -> Iterator[list[Encoded]]:
    """Encode the first `count` samples of each source, in the order of its shards."""
    bad: list[Bad] = []
    for name, paths in shards.items():
        left_out: Counter[str] = Counter()
        samples = (sample for path in paths for sample in read_shard(path, bad.append))
        for sample in islice(samples, count):
            try:
                documents = encode.sample(sample)
            except (MessageError, MediaError, PlaceholderError) as error:
                left_out[str(error)] += 1
                continue
            if sum(map(len, documents)) <= limit and all(map(_labels, documents)):
                yield documents
            else:
                left_out[f"over {limit} tokens, or without an answer"] += 1
        missing += [f"source {name!r}: {n} held out: {why}" for why, n in left_out.items()]
    missing += [f"held out: {reason}" for reason in bad]


def _labels(document: Encoded) -> int:
    return int((document.labels[1:] != IGNORE_INDEX).sum())


def heldout_losses(
    model: Any, processor: Any, samples: list[list[Encoded]], objective: Any, start: Any = None
) -> dict[str, dict[str, float]]:
    """Return, by modality, the mean loss by what documents weigh: in nats per label for `sft`.

    `samples` are lists of documents, as the objective's rendering makes them; `start` is the model
    to compare with, where the objective does.
    """
    task = Task(model, objective, start, evaluates=True)
    one = torch.ones((), device=model.device)
    sums: dict[str, Counter[str]] = {}
    ordered = sorted(samples, key=lambda sample: modality(sample[0]))
    for some in (ordered[n : n + BATCH] for n in range(0, len(ordered), BATCH)):
        flat = [document for sample in some for document in sample]
        batch = {k: v.to(model.device) for k, v in processor.pack(flat).items()}
        with torch.no_grad():
            values = task(batch, one).by_document.tolist()
        owners = [n for n, sample in enumerate(some) for _ in sample]
        of = Documents(owners, [*map(len, flat)], [*map(_labels, flat)], modalities=[
            modality(document) for document in flat],
            numbers=[document.numbers for document in flat])  # fmt: skip
        for name, labels, weight, value in zip(
            of.modalities, of.labels, task.objective.weights(of), values, strict=False
        ):
            more = {"loss": value, "weight": weight, "labels": labels, "documents": 1}
            sums.setdefault(name, Counter()).update(more)
    return {
        name: {"loss": total["loss"] / total["weight"], "labels": total["labels"],
               "documents": total["documents"]} for name, total in sums.items()
    }  # fmt: skip


def _rows(
    recipe: Recipe,
    stage: StageConfig,
    model: Any,
    processor: Any,
    shards: dict[str, list[Path]],
    missing: list[str],
) -> list[dict[str, Any]]:
    """Ask the rows of the mini suite, without controls."""
    able = _able(choose(SUITE, recipe.probes.rows), model)
    roots = {path.parent.parent for paths in shards.values() for path in paths}
    if not (able and recipe.probes.rows and roots):
        return []
    if len(roots) > 1:
        folders = ", ".join(map(str, sorted(roots)))
        missing.append(f"suite rows need all sources in one folder; they are in {folders}")
        return []
    result = run_suite(
        model, processor, SUITE, roots.pop(), Path(recipe.output) / "probes" / stage.name,
        rows=able, limit=recipe.probes.limit, controls=False,
    )  # fmt: skip
    return _measured(result["rows"], missing)


def _own_rows(
    recipe: Recipe, stage: StageConfig, model: Any, processor: Any, missing: list[str]
) -> list[dict[str, Any]]:
    """Ask the sources of `probes.heldout`, each named FOLDER/SOURCE."""
    rows = []
    for number, path in enumerate(map(Path, recipe.probes.heldout)):
        try:
            suite = heldout_suite(path)
        except MissingDataError as error:
            missing.append(str(error))
            continue
        if not (able := _able(suite.rows, model)):
            missing.append(f"{path}: its media are none that the model has")
            continue
        result = run_suite(
            model, processor, suite, None,
            Path(recipe.output) / "probes" / f"{stage.name}-{number}",
            rows=able, limit=recipe.probes.limit, controls=False,
        )  # fmt: skip
        found = _measured(result["rows"], missing)
        rows += [row | {"name": f"{path.name}/{row['name']}"} for row in found]
    return rows


def _able(rows: Iterable[Any], model: Any) -> list[str]:
    """The names of the rows whose media the model knows."""
    has = {encoder_class(m["encoder"]).media for m in model.config.modalities.values()}
    return [row.name for row in rows if {SHOWS[control] for control in row.controls} <= has]


def _measured(rows: Iterable[dict[str, Any]], missing: list[str]) -> list[dict[str, Any]]:
    rows = list(rows)
    missing += [f"{row['name']}: {row['missing']}" for row in rows if row["missing"]]
    return [{key: row[key] for key in ("name", "score", "n")} for row in rows]
