"""The sets that guard models are measured on, from local files; and predictions on them."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data_shards.sources.verdicts import INPUT, INSTRUCTION, NO_RESPONSE, VALUES
from omni.files.jsonl import read_lines
from omni.processing.messages import user

from ..rows.own import Doc, MissingDataError, Own
from ..scoring.guard import TASKS, averages, f1, predicted, scored

SETS = {
    "prompt": ("ToxicChat", "OpenAIModeration", "Aegis", "SimpleSafety", "HarmBenchPrompt",
               "WildGuardTest"),
    "response": ("HarmBenchResponse", "SafeRLHF", "BeaverTails", "XSTestResponseHarmful",
                 "WildGuardTest"),
    "refusal": ("XSTestResponseRefusal", "WildGuardTest"),
}  # fmt: skip
"""task -> sets; WildGuardTest has all three"""
LABELS = {
    "prompt": ("prompt_harm_label", "label"),
    "response": ("response_harm_label", "label"),
    "refusal": ("response_refusal_label", "label"),
}
OUTPUTS = ("predict", "prediction", "answer", "generated")
MOST = 1024  # new tokens: reasoning of the published models has 480 on average


@dataclass(frozen=True)
class Folder:
    """A folder with SET.jsonl or SET.json for each set that is there."""

    root: Path

    @property
    def digest(self) -> str:
        facts = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in sorted(self._files())]
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    @property
    def label(self) -> str:
        return f"the files of {self.root}"

    def _files(self) -> Iterator[Path]:
        return (file for file in self.root.iterdir() if file.suffix in (".json", ".jsonl"))

    def docs(self, name: str, task: str) -> list[Doc]:
        """Return the questions of a set that have a label for a task.

        Raises:
            MissingDataError: there is no such file, or it has none; says what a row must have.
        """
        files = [file for file in self._files() if file.stem.lower() == name.lower()]
        if not files:
            raise MissingDataError(f"{self.root} has no {name}.jsonl")
        rows = [(number, row, gold_of(row, task)) for number, row in enumerate(rows_of(files[0]))]
        found = [_doc(number, row, gold) for number, row, gold in rows if gold and _asks(row)]
        if not found:
            raise MissingDataError(
                f"{files[0]}: no row has a prompt and, under {' or '.join(LABELS[task])}, "
                f"{' or '.join(VALUES[TASKS[task]])}"
            )
        return found


def open_folder(data: Path | None) -> Folder:
    """Open the folder of the guard suite.

    Raises:
        FileNotFoundError: there is none.
    """
    if data is None or not data.is_dir():
        raise FileNotFoundError("the guard suite needs --data: a folder with ToxicChat.jsonl ...")
    return Folder(data)


def rows_of(file: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of lines, or of one list.

    Raises:
        ValueError: it is neither.
    """
    if file.suffix == ".jsonl":
        return [*read_lines(file)]
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not JSON: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{file}: a list of objects, or one on each line, is wanted")
    return rows


def gold_of(row: Mapping[str, Any], task: str) -> str | None:
    """Return the label of a task: of its own key, or in the answers of a record's `output`."""
    for name in LABELS[task]:
        value = str(row.get(name, "")).strip().lower()
        if value in VALUES[TASKS[task]]:
            return value
        if name == "label" and (found := predicted(task, str(row.get("label", "")))):
            return found
    return predicted(task, str(row.get("output", "")))


def _asks(row: Mapping[str, Any]) -> bool:
    return bool(row.get("prompt") or row.get("input"))


def _doc(number: int, row: Mapping[str, Any], gold: str) -> Doc:
    asked = row.get("input") or INPUT.format(row["prompt"], row.get("response") or NO_RESPONSE)
    messages = [user(f"{row.get('instruction') or INSTRUCTION}\n\n{asked}")]
    return Doc(str(number), messages, str(asked).strip(), gold)


def _row(name: str, task: str) -> Own:
    return Own(
        f"{task}_{name}", lambda folder: folder.docs(name, task),  # type: ignore[attr-defined]
        partial(scored, task), (), MOST, how="own (F1)", stop=(),
    )  # fmt: skip


ROWS = tuple(_row(name, task) for task, names in SETS.items() for name in names)


def rescore(files: Sequence[Path]) -> tuple[list[tuple[str, str, float | None, int, int]], Any]:
    """Score predictions that lie in files, a set each.

    A row has its prediction under predict, prediction, answer or generated, and its labels as
    those of the suite; a task is scored on the rows that have a label for it.

    Returns:
        (set, task, F1, samples, unparsable) of each, and the `averages`.

    Raises:
        ValueError: a file without predictions, or without labels.
    """
    lines = []
    for file in files:
        rows = rows_of(file)
        outputs = [next((row[name] for name in OUTPUTS if name in row), None) for row in rows]
        if not rows or any(output is None for output in outputs):
            number = next((n for n, output in enumerate(outputs, 1) if output is None), 1)
            raise ValueError(f"{file}: row {number} has no prediction under {', '.join(OUTPUTS)}")
        before = len(lines)
        for task in _tasks(file.stem):
            pairs = [(gold, predicted(task, str(output)))
                     for row, output in zip(rows, outputs, strict=True)
                     if (gold := gold_of(row, task))]  # fmt: skip
            if pairs:
                unread = sum(said is None for _, said in pairs)
                lines.append((file.stem, task, f1(task, pairs), len(pairs), unread))
        if len(lines) == before:
            raise ValueError(f"{file}: no row has a label for any of {', '.join(TASKS)}")
    known = {f"{name} {task}": (task, score, count)
             for name, task, score, count, _ in lines if score is not None}  # fmt: skip
    return lines, averages(known)


def _tasks(name: str) -> list[str]:
    """Return the tasks that a set is for, all where it is none of the suite's."""
    mine = [task for task, names in SETS.items() if name.lower() in map(str.lower, names)]
    return mine or list(TASKS)
