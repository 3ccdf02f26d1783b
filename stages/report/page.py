"""One page of a run, finished or not."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from eval.report.chart import Points, bars, lines, scores
from eval.report.page import examples, render
from eval.report.table import HEAD, cells, notes
from omni.files.atomic import write_text

from ..metrics.names import OF_GROUP
from .history import StageHistory, history

LISTED = 200  # rows of a long list
COUNTED = tuple(f".{count}" for count in OF_GROUP)  # ends of names that are no losses


def write_page(run: Path, evaluation: Path, refresh: int = 0) -> Path:
    """Write RUN/report.html and return its path.

    Args:
        run: output folder of omni-train; what is missing in it, the page says.
        evaluation: output folder of omni-eval, if there is one yet.
        refresh: seconds after which a browser reads the page again; 0: never.

    Raises:
        FileNotFoundError: `run` is no output folder of omni-train.
    """
    path = run / "report.html"
    shown = gather(run, evaluation) | {"refresh": refresh}
    write_text(path, render("page.html", "stages.report", **shown), shared=True)
    return path


def gather(run: Path, evaluation: Path) -> dict[str, Any]:
    """Return what the template shows."""
    stages = history(run)
    found = evaluation / "rows.json"
    result = json.loads(found.read_text(encoding="utf-8")) if found.is_file() else None
    return {
        "name": run.resolve().name,
        "made": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "recipe": (run / "recipe.yaml").read_text(encoding="utf-8"),
        "stages": stages,
        "missing": _missing(run, evaluation, stages, result),
        "losses": [chart for stage in stages for chart in losses(stage)],
        "rates": _rates(stages),
        "consumed": _consumed(stages),
        "quarantine": _quarantine(stages),
        "probes": _probes(stages),
        "head": HEAD,
        "table": [cells(row) for row in result["rows"]] if result else [],
        "notes": notes(result) if result else [],
        "examples": examples(result, evaluation) if result else [],
        "scores": Markup(scores("score of each row, per cent", result["rows"])) if result else "",
    }


def _missing(
    run: Path, evaluation: Path, stages: Sequence[StageHistory], result: dict[str, Any] | None
) -> list[str]:
    notes = [f"{s.name}: {s.state}" for s in stages if not s.facts]
    if not result:
        notes.append(
            "no evaluation yet: when all stages are finished, run "
            f"omni-eval {run / stages[-1].name} --out {evaluation}"
        )
    if not any(stage.probe for stage in stages):
        notes.append("no probes between stages: set probes.samples in the recipe")
    return notes


def losses(stage: StageHistory) -> list[Markup]:
    """Draw a stage's loss by modality, then by source; nothing before its first step."""
    if not stage.rows:
        return []
    charts = []
    for kind in ("modality", "source"):
        names = [key for row in stage.rows for key in row
                 if key.startswith(f"{kind}.") and not key.endswith(COUNTED)]  # fmt: skip
        series = {key.removeprefix(f"{kind}."): _curve(stage, key) for key in sorted({*names})}
        if len(series) != 1:  # one alone is all
            series = {"all": _curve(stage, "loss"), **series}
        title = f"{stage.name}: loss per label token by {kind}; bold: running mean"
        charts.append(Markup(lines(title, series, log=True, noisy=True)))
    return charts


def _curve(stage: StageHistory, key: str, offset: int = 0) -> Points:
    return [(offset + row["step"], row[key]) for row in stage.rows if row.get(key) is not None]


def _rates(stages: Sequence[StageHistory]) -> list[Markup]:
    """Draw what is logged of each step, one stage after the other."""
    offsets, marks, steps = [], [], 0
    for stage in stages:
        offsets.append(steps)
        if stage.rows:
            marks.append((steps + 1, stage.name))
            steps += stage.rows[-1]["step"]

    def chart(title: str, chosen: Callable[[str], bool], log: bool = False) -> Markup:
        keys = {key: None for stage in stages for row in stage.rows for key in row if chosen(key)}
        series = {
            key: [p for s, at in zip(stages, offsets, strict=True) for p in _curve(s, key, at)]
            for key in keys
        }
        return Markup(lines(title, series, "step of all stages", marks, log))

    def one_of(*names: str) -> Callable[[str], bool]:
        return lambda key: key in names

    return [
        chart("learning rate by pattern", lambda key: key.startswith("lr."), log=True),
        chart("tokens a second, data wait included", one_of("tokens_per_s", "label_tokens_per_s")),
        chart("media a second", one_of("images_per_s", "audio_seconds_per_s")),
        chart("share of the time spent waiting for data, and of padding",
              one_of("data_wait", "padding")),
        chart("model FLOP/s utilisation", lambda key: key == "mfu" or key.startswith("mfu.")),
        chart("peak memory, GiB", one_of("memory_gb")),
        *([chart("rollouts: mean reward", one_of("reward")),
           chart("rollouts: answers solved, cut, and groups that all earn the same",
                 one_of("solved", "solved_first", "answers_cut", "flat_groups")),
           chart("rollouts: tokens of an answer", one_of("answer_tokens")),
           chart("nats per token: entropy, divergence", one_of("entropy", "surprise", "kl")),
           chart("tokens a second, drawn and trained",
                 one_of("generated_tokens_per_s", "trained_tokens_per_s"))]
          if any("reward" in row for stage in stages for row in stage.rows) else []),
    ]  # fmt: skip


def _consumed(stages: Sequence[StageHistory]) -> dict[str, Any]:
    """Return tokens by source as a chart, and a row for each stage and source."""
    tokens: Counter[str] = Counter()
    rows = []
    for stage in stages:
        for source in stage.config["data"]["mixture"]:
            counts = [stage.total(f"source.{source}.{count}") for count in OF_GROUP]
            tokens[source] += counts[1]
            rows.append((stage.name, source, *counts))
    return {"chart": Markup(bars("tokens by source", tokens)), "rows": rows}


def _quarantine(stages: Sequence[StageHistory]) -> dict[str, Any]:
    rows = [(stage.name, row) for stage in stages for row in stage.quarantine]
    listed = [
        {"stage": name, **{k: str(row.get(k) or "") for k in ("source", "shard", "key", "reason")}}
        for name, row in rows[:LISTED]
    ]
    return {"count": len(rows), "rows": listed}


def _probes(stages: Sequence[StageHistory]) -> dict[str, Any]:
    """Draw what was probed after each stage over the number of the stage."""
    probed = [(number, s.name, s.probe) for number, s in enumerate(stages, 1) if s.probe]
    marks = [(number, name) for number, name, _ in probed]

    def chart(title: str, pick: Callable[[dict[str, Any]], dict[str, float | None]]) -> Markup:
        series: dict[str, list[tuple[float, float]]] = {}
        for number, _, probe in probed:
            for name, value in pick(probe).items():
                if value is not None:
                    series.setdefault(name, []).append((number, value))
        return Markup(lines(title, series, "stage", marks))

    return {
        "charts": [
            chart("held-out loss per label token by modality",
                  lambda p: {f"{name} ({p['objective']})": found["loss"]
                             for name, found in p["heldout"].items()}),
            chart("text drift from the starting LLM, nats a token",
                  lambda p: {"text_drift": p["text_drift"]}),
            chart("mini-suite, per cent",
                  lambda p: {row["name"]: row["score"] for row in p["rows"]}),
        ] if probed else [],
        "missing": [(name, notes) for _, name, probe in probed for notes in probe["missing"]],
        **_answers(stages),
    }  # fmt: skip


def _answers(stages: Sequence[StageHistory]) -> dict[str, Any]:
    """Return the prompts that were asked with all answers, and when: in stages and after them."""
    asked = {}
    for stage in stages:
        asked |= {f"{stage.name}, step {step}": found for step, found in stage.asked.items()}
        if stage.probe:
            asked[stage.name] = stage.probe.get("answers", [])  # none in what older runs left
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for when, answers in asked.items():
        for one in answers:
            row = rows.setdefault((one["source"], one["sample"]), {**one, "by": {}})
            row["by"][when] = one["answer"]
    return {"answers": [*rows.values()], "asked": [*asked]}
