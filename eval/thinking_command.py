"""`omni-eval thinking`: what a model scores with budgets of thinking."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from omni.serve.command import announce, refused

from . import options


def thinking(
    checkpoint: Annotated[str, typer.Argument(help="Folder that a stage saved, or hf:ID.")],
    budgets: Annotated[
        str, typer.Option(help="Most tokens of thinking, comma separated; 0: none.")
    ] = "0,64,256",
    least: Annotated[
        int, typer.Option("--min", min=0, help="Fewest, as far as the budget allows.")
    ] = 0,
    ignore_end: Annotated[
        int, typer.Option(min=0, help='Ends of thinking that become "Wait".')
    ] = 0,
    wait: Annotated[str, typer.Option(help="What they become.")] = "Wait",
    marker: Annotated[str, typer.Option(help="The tag that opens thinking.")] = "<think>",
    suite: options.Suite = "mini",
    data: options.Data = None,
    heldout: options.Heldout = None,
    score: options.Score = "",
    out: options.Out = Path("runs/thinking"),
    rows: options.Rows = "",
    limit: options.Limit = None,
    max_new_tokens: options.MaxNewTokens = None,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    seed: options.Seed = 0,
    max_batch: options.MaxBatch = 32,
    token_budget: options.TokenBudget = 4096,
) -> None:
    """Measure what thinking longer is worth, by budget forcing (s1, arXiv 2501.19393).

    Every question is asked with each budget. Prints the score and the tokens of thinking of each,
    and over all: Control (answers whose thinking kept to its budget), Scaling (mean slope of the
    score, in points for 1,000 tokens) and Performance (the best score). The score is the mean of
    the rows. OUT holds thinking.json, thinking.html with a plot of the scores over the tokens, and
    below it an evaluation for each budget.

    Example: `omni-eval thinking runs/mine/sft --budgets 0,64,256 --heldout data/sums`
    """
    announce(f"evaluating {checkpoint} with thinking of {budgets} tokens into {out}")
    from omni.load import CheckpointError
    from omni.weights import WeightsError

    from .answering.backends import check_sampling
    from .rows.own import MissingDataError

    try:
        sampling: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "seed": seed}
        each = {
            most: sampling | {"thinking": {"max": most, "min": min(least, most), "wait": wait,
                                           "ignore_end": ignore_end, "marker": marker}}
            for most in _numbers(budgets)
        }  # fmt: skip
        for one in each.values():
            check_sampling(checkpoint, one)
        found = _measure(checkpoint, each, suite, data, heldout, score, out, rows=rows,
                         limit=limit, max_new_tokens=max_new_tokens,
                         limits={"max_batch": max_batch, "token_budget": token_budget})  # fmt: skip
    except (ValueError, OSError, MissingDataError, CheckpointError, WeightsError) as error:
        raise refused(error) from error
    _tell(found, out)


def _numbers(budgets: str) -> list[int]:
    parts = [part.strip() for part in budgets.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise ValueError(f"--budgets {budgets}: write numbers of tokens, such as 0,64,256")
    return sorted({int(part) for part in parts})


def _measure(
    spec: str, each: dict[int, dict[str, Any]], suite: str, data: Path | None,
    heldout: Path | None, score: str, out: Path, *, limits: dict[str, Any], **asking: Any,
) -> list[Any]:  # fmt: skip
    """Evaluate with each budget; return the runs."""
    from .answering.backends import check_spec, open_model
    from .harness import Harness
    from .rows.heldout import refuse_other_split
    from .run import choose, evaluate
    from .scoring.compute import Run
    from .suites.registry import asked_suite, found_data

    asked = asked_suite(suite, heldout, score)
    choose(asked, asking["rows"], asking["max_new_tokens"])
    data, shown = found_data(asked, data)
    check_spec(spec)
    runs: list[Run] = []
    with Harness(asked, data) as harness:
        opened = open_model(spec, **limits)
        mine = heldout or shown
        if opened.model is not None and mine:
            refuse_other_split(opened.model.config.parts, mine)
        for most, sampling in each.items():
            answerer = replace(opened.answerer, sampling=sampling, notes=[], thoughts=[])
            result = evaluate(
                answerer, opened.weights, asked, data, out / f"budget-{most}", controls=False,
                model=spec, run_row=harness.run, **asking,
            )  # fmt: skip
            scores = [row["score"] for row in result["rows"] if row["score"] is not None]
            if not scores:
                raise ValueError(f"no row has a score: {result['rows'][0]['missing']}")
            low = sampling["thinking"]["min"]
            runs.append(Run(most, answerer.thoughts, low, most, sum(scores) / len(scores)))
    return runs


def _tell(runs: list[Any], out: Path) -> None:
    """Print the table, and write thinking.json and thinking.html."""
    from rich.console import Console

    from omni.files.atomic import write_json, write_text

    from .grid import Grid, show
    from .report.thinking import thinking_page
    from .scoring.compute import control, performance, scaling

    points = [(run.mean, run.score) for run in runs]
    slope = scaling(points)
    figures = {
        "control": control(runs), "scaling": None if slope is None else 1000 * slope,
        "performance": performance(points),
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    about = [
        {name: value for name, value in run._asdict().items() if name != "tokens"}
        | {"answers": len(run.tokens), "tokens": run.mean}
        for run in runs
    ]
    write_json(out / "thinking.json", {"runs": about, **figures})
    lines = [[f"{run.budget:,}", f"{run.mean:.1f}", f"{len(run.tokens):,}", f"{run.score:.1f}"]
             for run in runs]  # fmt: skip
    console = Console(file=sys.stdout)
    show(Grid(["budget", "thinking tokens", "answers", "score"], lines), console)
    told = {name: "n/a" if value is None else f"{value:.1f}" for name, value in figures.items()}
    write_text(out / "thinking.html", thinking_page(points, told))
    console.print(
        f"Control {told['control']} %; Scaling {told['scaling']} points for 1,000 tokens; "
        f"Performance {told['performance']}; written: {out}/thinking.json and .html",
        soft_wrap=True,
    )  # fmt: skip
