"""Run a suite on a model: every row, its controls, the files, and the figures for a report."""

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omni.files.atomic import write_json, write_text
from omni.generation.settings import Generation
from omni.nearest import nearest

from .answering.answerer import Answerer, CannotAskError
from .answering.ranks import Ranks
from .answering.store import AnswerStore, digest
from .lmms.judge import Judge
from .lmms.official import Official
from .report.mean import mean_of_ten
from .row import as_row, note, set_against
from .rows.examples import worked_examples
from .rows.own import MissingDataError, Own
from .scoring.right import Scored
from .scoring.units import stored_units
from .suites.registry import Suite, suite_of

# (row name, conditions) -> nothing; called before a condition is asked
OnCondition = Callable[[str, str], None]
# (row, answerer, source, condition, limit, scratch) -> its score, see `Official.run`
RunRow = Callable[[Official | Own, Answerer, Any, str, int | None, Path], Scored]


def run_suite(
    model: Any,
    processor: Any,
    suite: str | Suite,
    data: Path | None,
    out: Path,
    *,
    rows: str | Iterable[str] = (),
    limit: int | None = None,
    controls: bool = True,
    progress: Callable[[int], None] = lambda answers: None,
    on_condition: OnCondition = lambda row, condition: None,
    **batching: Any,
) -> dict[str, Any]:
    """Score `model` and write OUT/rows.json, table.md, table.txt and answers.jsonl.

    The model is put into evaluation mode for the duration. `progress` receives numbers of answers,
    `on_condition` the row and condition about to be asked; `batching` goes to `Answerer`.

    Returns what rows.json holds.

    Raises:
        ValueError: an unknown suite or row name; FileNotFoundError: no held-out shard at all.
    """
    from .answering.backends.ours import for_model
    from .answering.store import weights_fingerprint

    answerer = for_model(model, processor, progress=progress, **batching)
    was_training = bool(model.training)
    model.eval()
    try:
        return evaluate(
            answerer, weights_fingerprint(model), suite, data and Path(data), Path(out),
            rows=rows, limit=limit, controls=controls, on_condition=on_condition,
        )  # fmt: skip
    finally:
        model.train(was_training)


def run_here(row: Official | Own, *how: Any) -> Scored:
    """Run a row in this process."""
    return row.run(*how)


def evaluate(
    answerer: Answerer,
    weights: str,
    suite: str | Suite,
    data: Path | None,
    out: Path,
    *,
    rows: str | Iterable[str] = (),
    limit: int | None = None,
    controls: bool = True,
    max_new_tokens: int | None = None,
    on_condition: OnCondition = lambda row, condition: None,
    model: str = "",
    judge: Judge | None = None,
    run_row: RunRow = run_here,
) -> dict[str, Any]:
    """`run_suite` for anything that answers.

    Answers are kept in OUT/store under `weights`, which identifies the model, so that a run that
    was killed goes on and another table of the same answers is made in seconds. Ranks other than
    0 do and return the same, but write only what they answered. `model` is how it was named.
    `max_new_tokens` takes the place of the rows' own.
    A `judge` reads the answers of the benchmarks whose published scores one did. `run_row` may be
    `Harness.run`.
    """
    start = time.monotonic()
    chosen = choose(suite, rows, max_new_tokens)
    source = suite_of(suite).open(data)
    if judge is not None:
        judge.keep(out / "judge")
        chosen = [replace(s, judge=judge) if isinstance(s, Official) else s for s in chosen]
    of = digest(weights, answerer.settings)
    answerer.store = AnswerStore(out / "store", of, answerer.ranks)
    table, answers, scores = [], [], {}
    with _own_folder(out, answerer.ranks) as out:
        for spec in chosen:
            scored = ask(spec, answerer, source, out, limit, controls, on_condition, run_row)
            table.append(as_row(spec, scored))
            answers += answer_lines(spec.name, scored)
            if isinstance(normal := scored["normal"], Scored):
                scores[spec.name] = normal
        set_against(table, chosen, scores)
        result = {
            "suite": suite if isinstance(suite, str) else suite.name,
            "model": model,
            "images": source.label,
            "weights": weights,
            "data": source.digest,
            "seconds": round(time.monotonic() - start, 1),
            "limit": limit,
            "sampling": dict(answerer.sampling),
            "generation": generation_of(answerer, max_new_tokens),
            "problems": answerer.problems + (judge.problems if judge else []),
            "shortened": answerer.shortened,
            "rows": [asdict(row) for row in table],
        }
        units = {name: normal.units for name, normal in scores.items() if normal.units}
        result["mean"] = mean_of_ten(result["rows"], units, limit)
        result["figures"] = figures(result["rows"])
        own = [(row, scores[row.name].outcomes) for row in chosen
               if isinstance(row, Own) and row.name in scores]  # fmt: skip
        result["examples"] = worked_examples(own, source, limit, out)
        _write(result, answers, scores, out)
    return result


@contextlib.contextmanager
def _own_folder(out: Path, ranks: Ranks) -> Iterator[Path]:
    """OUT for rank 0; the others score the same answers into a folder that goes away."""
    if not ranks.rank:
        yield out
        return
    with TemporaryDirectory(prefix="omni-eval-rank-") as folder:
        yield Path(folder)


def choose(
    suite: str | Suite, names: str | Iterable[str], max_new_tokens: int | None = None
) -> list[Official | Own]:
    """The rows of a suite, or those named, in a list or with commas in between.

    Their answers are of at most `max_new_tokens`, where that is given, whatever the rows say.

    Raises:
        ValueError: an unknown name; says the nearest, or the known ones.
    """
    if isinstance(names, str):
        names = [name.strip() for name in names.split(",") if name.strip()]
    known = {row.name: row for row in suite_of(suite).rows}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown row {', '.join(unknown)}; {nearest(unknown[0], known)}")
    chosen = [known[name] for name in names] or list(known.values())
    return [row.with_limit(max_new_tokens) for row in chosen] if max_new_tokens else chosen


def ask(
    spec: Official | Own,
    answerer: Answerer,
    source: Any,
    out: Path,
    limit: int | None,
    controls: bool,
    on_condition: OnCondition,
    run_row: RunRow,
) -> dict[str, Scored | str]:
    """Every condition of one row: its result, or in words why it has none."""
    found: dict[str, Scored | str] = {}
    for condition in ("normal", *(spec.controls if controls else ())):
        on_condition(spec.name, condition)
        before = len(answerer.notes)
        try:
            scored = run_row(spec, answerer, source, condition, limit, out / "work")
            note(spec.name, scored, answerer.notes, before)
            found[condition] = scored
        except (MissingDataError, CannotAskError) as error:
            found[condition] = str(error)
            if condition == "normal":
                break
    return found


def answer_lines(row: str, found: dict[str, Scored | str]) -> list[dict[str, Any]]:
    """Every question of a row as answers.jsonl has it."""
    return [
        {"row": row, "condition": condition, **asdict(outcome)}
        for condition, scored in found.items()
        if isinstance(scored, Scored)
        for outcome in scored.outcomes
    ]


def generation_of(answerer: Answerer, max_new_tokens: int | None) -> dict[str, Any]:
    """All that decides the answers beside weights and questions; None: as each row has it."""
    usual = Generation()
    fixed = {
        "max_new_tokens": max_new_tokens, "stop": None, "temperature": usual.temperature,
        "top_p": usual.top_p, "seed": usual.seed, "system": answerer.system,
    }  # fmt: skip
    return fixed | dict(answerer.sampling) | dict(answerer.loaded)


def figures(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """The headline numbers under the names that a report uses; None where a row is missing."""
    by_name = {row["name"]: row for row in rows}
    wanted: dict[str, float | None] = {}
    for name in (
        *("category", "spoken_word", "spoken_question", "transcription"),
        *("human_speech", "human_word", "human_transcription"),
    ):
        row = by_name.get(name)
        if row is None:
            continue
        wanted[f"{name}_accuracy"] = row["score"]
        for condition in ("shuffled_images", "shuffled_audio"):
            if condition in row["controls"]:
                score = row["controls"][condition]["score"]
                wanted[f"{name}_accuracy_{condition}"] = score
    return wanted


def write_result(result: dict[str, Any], out: Path) -> None:
    """Write OUT/rows.json."""
    write_json(out / "rows.json", result)


def _write(
    result: dict[str, Any], answers: list[dict[str, Any]], scores: dict[str, Scored], out: Path
) -> None:
    from .grid import markdown, terminal
    from .report.result import report
    from .report.table import grid

    table = grid(result)
    write_result(result, out)
    write_text(out / "table.md", markdown(table))
    write_text(out / "table.txt", terminal(table))
    lines = [json.dumps(line, ensure_ascii=False) for line in answers]
    write_text(out / "answers.jsonl", "\n".join(lines) + "\n")
    units = {name: stored_units(normal) for name, normal in scores.items()}
    write_text(out / "units.json", json.dumps(units, ensure_ascii=False))
    write_text(out / "report.html", report(result, answers, out))
