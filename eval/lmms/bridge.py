"""lmms-eval's official task objects, on local parquet files or the hub, without its import bill."""

import contextlib
import importlib.machinery
import importlib.util
import os
import random
import sys
import types
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni.imports import without

from .decoding import tolerant

TRIES = 5  # of a download
ENVIRONMENT = {
    "OPENAI_API_KEY": "offline",  # some task modules refuse to import without one; never sent
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # a request for every local file that is opened
    "TOKENIZERS_PARALLELISM": "false",
}
# a training run around us keeps its random state; greedy answers need none
NO_SEEDING: dict[str, Any] = {
    "random_seed": None,
    "numpy_random_seed": None,
    "torch_random_seed": None,
}


Sample = dict[str, Any]  # one doc as lmms-eval's results hold it


@dataclass
class TaskResult:
    """What the official code returned: aggregated metrics, and one dict per doc in doc order."""

    metrics: dict[str, float]
    samples: list[Sample]


def prepare() -> None:
    """Set the environment and import lmms-eval without what these tasks never call.

    `evaluate`, a metric loader, pulls in transformers' pipelines and _dynamo: half of the import
    time and 200 MB; wandb, a log, takes two seconds.
    """
    if "lmms_eval.evaluator" in sys.modules:
        return
    from PIL import ImageFile

    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    truncated = ImageFile.LOAD_TRUNCATED_IMAGES
    stub = types.ModuleType("evaluate")
    stub.__spec__ = importlib.machinery.ModuleSpec("evaluate", None)
    stubbed = sys.modules.setdefault("evaluate", stub) is stub
    try:
        with without("wandb"):
            import lmms_eval.evaluator  # noqa: F401
            from loguru import logger
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = truncated  # it lets every half picture pass, anywhere
        if stubbed:  # whoever imports the real one later gets the real one
            del sys.modules["evaluate"]
    for noisy in ("lmms_eval", "utils", "en_utils", "evaluate_hb"):  # names its yaml loader gives
        logger.disable(noisy)


def _fail_at_once(local: bool) -> None:
    """Neither a missing column nor a damaged local file mends itself in the 8 s of retries."""
    from lmms_eval.api.task import ConfigurableTask
    from tenacity import stop_after_attempt

    score: Any = ConfigurableTask.process_results
    download: Any = ConfigurableTask.download
    score.retry.stop, score.retry.reraise = stop_after_attempt(1), True
    download.retry.stop, download.retry.reraise = stop_after_attempt(1 if local else TRIES), True


def tasks_folder() -> Path:
    """Where lmms-eval keeps its task definitions; finds it without importing it.

    Raises:
        ModuleNotFoundError: lmms-eval is not installed.
    """
    spec = importlib.util.find_spec("lmms_eval")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "lmms-eval is not installed; official rows need it: pip install 'lmms-eval>=0.7.3,<0.8'"
        )
    return Path(spec.submodule_search_locations[0]) / "tasks"


def load_task(
    task: str, folder: str, split: str, files: list[Path] | None, cache: Path, **overrides: Any
) -> Any:
    """A fresh official task object reading `files` as its `split`; None: what its yaml names.

    Fresh, because some official modules keep scores in globals that a new object resets. Split
    names are given, not guessed: from a file called dev-* datasets would make "validation".
    `overrides` replace keys of the official yaml and may hold callables.
    """
    prepare()
    _fail_at_once(files is not None)
    from lmms_eval.tasks import TaskManager

    manager = TaskManager(
        "WARNING", include_path=[str(tasks_folder() / folder)], include_defaults=False
    )
    config: dict[str, Any] = {"task": task, "tag": [], **overrides}
    if files is not None:
        config |= {
            "dataset_path": "parquet",
            "dataset_name": None,
            "dataset_kwargs": {
                "data_files": {split: [str(file.resolve()) for file in files]},
                "cache_dir": str(cache),
            },
        }
    cache.mkdir(parents=True, exist_ok=True)
    with _quiet(cache / "lmms_eval.log"), tolerant():
        loaded = next(iter(manager.load_task_or_group([config], task_type="chat").values()))
    for name, docs in loaded.dataset_no_image.items():
        if not loaded.config.process_results_use_image:
            loaded.dataset_no_image[name] = docs.remove_columns(_media(docs.features))
    return loaded


def _media(features: Any) -> list[str]:
    """The columns that hold media in lists too, which lmms-eval decodes where no media is asked."""
    from datasets import Audio, Image, List

    media = (Audio, Image)
    return [
        name
        for name, kind in features.items()
        if isinstance(kind.feature if isinstance(kind, List) else kind, media)
    ]


def run_task(task: Any, chat_model: Any, out: Path) -> TaskResult:
    """Run one official task object; its chatter and its submission files go to `out`."""
    prepare()
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    out.mkdir(parents=True, exist_ok=True)
    with _quiet(out / "lmms_eval.log"), random_state_kept(), _alone(), tolerant():
        results = simple_evaluate(
            model=chat_model,
            tasks=[task],
            task_manager=TaskManager("WARNING", include_defaults=False),  # None indexes 2000 files
            bootstrap_iters=0,
            **NO_SEEDING,
            cli_args=Namespace(output_path=str(out), process_with_media=False, reasoning_tags=None),
        )
    if not results:
        raise RuntimeError("lmms-eval returned nothing, as it does on ranks other than 0")
    name = task.config.task
    metrics = {
        key.split(",")[0]: float(value)
        for key, value in results["results"][name].items()
        if isinstance(value, int | float) and "stderr" not in key
    }
    samples = sorted(results["samples"][name], key=lambda sample: sample["doc_id"])
    return TaskResult(metrics, samples)


@contextlib.contextmanager
def _quiet(log: Path) -> Iterator[None]:
    with (
        log.open("a", encoding="utf-8") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        yield


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """MMBench's scorer seeds the global generator; a training run around us must not notice."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Let lmms-eval see one process: it shards docs by number, we questions by their cost."""
    hidden = {name: os.environ.pop(name, None) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    try:
        yield
    finally:
        os.environ.update({name: value for name, value in hidden.items() if value is not None})
