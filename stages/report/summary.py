"""One json file that says what a run did and how good its model is."""

import json
from pathlib import Path
from typing import Any

from omni.model.card import FILE, card, write_card

from .history import recipe_of

STAGE_KEYS = ("name", "seconds", "tokens", "first_loss", "last_loss", "frozen_ok")
ROW_KEYS = ("name", "score", "n", "ci_low", "ci_high", "blind", "chance", "how", "controls")


def build_report(run: Path, evaluation: Path) -> dict[str, Any]:
    """Join the facts of every finished stage with the rows of an evaluation.

    Returns what `run/report.json` is to hold; scores are on 0-100, a missing one is None.

    Raises:
        FileNotFoundError: no finished stage, or no evaluation; says what to run.
    """
    names = [s["name"] for s in recipe_of(run)["stages"]]
    done = [run / n / "stage.json" for n in names if (run / n / "stage.json").is_file()]
    if not done:
        raise FileNotFoundError(f"{run}: no finished stage; run omni-train first")
    stages = [json.loads(path.read_text()) for path in done]
    result = json.loads(evaluated(run, evaluation).read_text())
    peaks = [s["peak_rss_gb"] for s in stages] + [result.get("peak_rss_gb", 0.0)]
    return {
        "images": result["images"],
        "unit": "scores and accuracies are per cent; text_drift is nats a token",
        "stages": [{key: stage[key] for key in STAGE_KEYS} for stage in stages],
        "rows": [{key: row[key] for key in ROW_KEYS} for row in result["rows"]],
        **result["figures"],
        "peak_rss_gb": max(peaks),
        "seconds": {"training": round(sum(s["seconds"] for s in stages), 1),
                    "evaluation": result["seconds"]},
        "examples": [
            one | {kind: one[kind] and str(evaluation / one[kind]) for kind in ("image", "audio")}
            for one in result.get("examples", [])
        ],
    }  # fmt: skip


def write_scores(run: Path, evaluation: Path, report: dict[str, Any]) -> Path | None:
    """Write stages and scores into the card of the checkpoint that was evaluated, and return it.

    None where that is not one of the run's, or is there no more.
    """
    folder = Path(json.loads(evaluated(run, evaluation).read_text()).get("model") or "")
    names = [stage["name"] for stage in report["stages"]]
    if folder.resolve().parent != run.resolve() or folder.name not in names:
        return None
    config = json.loads((folder / "config.json").read_text())
    stages = report["stages"][: names.index(folder.name) + 1]
    write_card(folder, card(config, stages, report["rows"]))
    return folder / FILE


def evaluated(run: Path, evaluation: Path) -> Path:
    """Return the file that holds a run's scores.

    Raises:
        FileNotFoundError: there is none yet; says what to run.
    """
    found = evaluation / "rows.json"
    if not found.is_file():
        last = recipe_of(run)["stages"][-1]["name"]
        raise FileNotFoundError(
            f"{evaluation}: no rows.json; run omni-eval {run / last} --out {evaluation}"
        )
    return found


def describe_report(report: dict[str, Any]) -> str:
    """Return the stages, and a right and a wrong example, as text for a terminal."""
    lines = [f"{'stage':<14}{'seconds':>9}{'tokens':>9}{'first loss':>12}{'last loss':>11}  frozen"]
    for s in report["stages"]:
        lines.append(
            f"{s['name']:<14}{s['seconds']:>9.0f}{s['tokens']:>9,}{s['first_loss']:>12.3f}"
            f"{s['last_loss']:>11.3f}  {'unchanged' if s['frozen_ok'] else 'CHANGED'}"
        )
    lines += [_told(one) for one in _right_and_wrong(report["examples"])]
    return "\n".join(lines)


def _right_and_wrong(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first of either, as far as there are; those with most media before others."""
    rich = sorted(examples, key=lambda one: -(bool(one["image"]) + bool(one["audio"])))
    each = ([one for one in rich if (one["correct"] == 1) == right] for right in (True, False))
    return [some[0] for some in each if some]


def _told(one: dict[str, Any]) -> str:
    given = " and ".join(one[kind] for kind in ("image", "audio") if one[kind]) or "text alone"
    verdict = "right" if one["correct"] == 1 else f"expected: {one['expected']}"
    return (
        f"\nheld out, {one['row']}: {one['question']!r} ({given})\n"
        f"  the model answers: {one['answer']!r} ({verdict})"
    )


def compare(reports: list[dict[str, Any]]) -> str:
    """Return a Markdown table of every figure and row: one column a run, and their mean."""
    columns = []
    for report in reports:
        column = {f"{row['name']} (row)": row["score"] for row in report["rows"]}
        column |= {k: v for k, v in report.items() if v is None or isinstance(v, float)}
        columns.append(column | {f"{k}, seconds": v for k, v in report["seconds"].items()})
    names = dict.fromkeys(name for column in columns for name in column)
    figures = {name: [column.get(name) for column in columns] for name in names}
    head = [f"run {i}" for i in range(len(reports))]
    lines = [f"| figure | {' | '.join(head)} | mean |", "|---" * (len(head) + 2) + "|"]
    for name, values in figures.items():
        known = [v for v in values if v is not None]
        mean = f"{sum(known) / len(known):.3g}" if len(known) == len(reports) else "-"
        shown = " | ".join("-" if v is None else f"{v:.3g}" for v in values)
        lines.append(f"| {name} | {shown} | {mean} |")
    return "\n".join(lines)
