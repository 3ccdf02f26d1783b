"""A folder with an lmms-eval task of one's own as a suite of rows, which are never official."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from ..benchmarks.outcome import outcome
from ..lmms.benchmark import Benchmark
from ..lmms.bridge import TaskResult
from ..lmms.official import Official
from ..rows.own import MissingDataError
from ..scoring.right import Scored, agree, majority, proportion
from .sources import Hub

PREFIX = "task:"
HOW = "own task"
MOST = 128  # new tokens, where the task says nothing


class _Loader(yaml.SafeLoader):
    """Reads !function as its text: nothing of the task runs here."""


_Loader.add_constructor("!function", lambda loader, node: f"!function {node.value}")


def task_rows(folder: Path) -> tuple[Official, ...]:
    """A row for each task that a yaml file of the folder defines.

    Raises:
        FileNotFoundError: there is no such folder, or no task in it; ValueError: it is no yaml.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; --task takes one with a task's yaml")
    found = [config for file in sorted(folder.glob("*.yaml")) if "task" in (config := _read(file))]
    rows = tuple(_row(folder, config) for config in found if isinstance(config["task"], str))
    if not rows:
        raise FileNotFoundError(f"{folder}: no yaml file here names a task (task: NAME)")
    return rows


def open_task(data: Path | None) -> Hub:
    """A task says itself where its docs are.

    Raises:
        ValueError: a folder is given.
    """
    if data is not None:
        raise ValueError("--task reads what its yaml file names (dataset_path), not --data")
    return Hub()


def _read(file: Path) -> dict[str, Any]:
    """A yaml file with what it includes, which it overrides."""
    try:
        config = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is no yaml: {error}") from error
    if not isinstance(config, dict):
        return {}
    if isinstance(base := config.get("include"), str):
        config = {**_read(file.parent / base), **config}
    return config


def _row(folder: Path, config: dict[str, Any]) -> Official:
    name, metrics = config["task"], config.get("metric_list") or []
    split = next(
        (config[k] for k in ("test_split", "validation_split", "split") if config.get(k)), ""
    )
    if not (metrics and split):
        raise ValueError(f"{folder}: the task {name} has no metric_list or no test_split")
    most = int((config.get("generation_kwargs") or {}).get("max_new_tokens", MOST))
    target = config.get("doc_to_target")
    score = _score(metrics[0]["metric"], _truth(target))
    benchmark = Benchmark(
        name, name, name, str(folder.resolve()), split, 0, score, _truth(target), most, HOW
    )
    return Official(name, benchmark, lambda *_: None, cap=most)


def _truth(target: Any) -> Callable[[dict[str, Any]], str]:
    """The expected answer of a doc, where the task names the column that has it."""
    return lambda doc: str(doc[target]) if isinstance(target, str) and target in doc else ""


def _score(metric: str, truth: Callable[[dict[str, Any]], str]) -> Callable[[TaskResult], Scored]:
    """The mean of the first metric by doc, which must be what the task says over all."""

    def score(result: TaskResult) -> Scored:
        values = [sample[metric] for sample in result.samples]
        if not all(isinstance(v, int | float) and 0 <= v <= 1 for v in values):
            raise MissingDataError(
                f"the metric {metric} is no number from 0 to 1 for each doc, so it has no interval"
            )
        outcomes = [
            outcome(s, str(s["doc"].get("question", "")), truth(s["doc"]), value)
            for s, value in zip(result.samples, values, strict=True)
        ]
        scored = proportion(outcomes, majority([o.expected for o in outcomes if o.expected]))
        official = result.metrics[metric]
        agree(metric, scored.score, official if official > 1 else 100 * official)
        return scored

    return score
