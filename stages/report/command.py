"""`omni-train report` and `omni-train watch`: the page of a run."""

from pathlib import Path
from typing import Annotated

import typer

from omni.serve.command import refused


def report(
    runs: Annotated[list[Path], typer.Argument(help="output folders of omni-train")],
    evaluation: Annotated[
        Path | None, typer.Option("--eval", help="output folder of omni-eval [default: RUN/eval]")
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="also draw examples, scores and losses to this PNG; needs a Chromium"),
    ] = None,
) -> None:
    """Write RUN/report.html, and RUN/report.json once there is an evaluation.

    The page shows losses, learning rates, throughput, data, what was quarantined, probes and the
    evaluation; a run that is still in progress can be looked at, too. report.json has every stage,
    every row, and held-out questions with their answers. Several runs, such as the seeds of one
    recipe, are also printed side by side with their mean.
    """
    from omni.files.atomic import write_json

    from .page import write_page
    from .picture import write_picture
    from .summary import build_report, compare, describe_report, write_scores

    reports = []
    for run in runs:
        try:
            page = write_page(run, evaluation or run / "eval")
        except (OSError, KeyError, ValueError) as error:
            raise refused(error) from error
        try:
            reports.append(build_report(run, evaluation or run / "eval"))
            write_json(run / "report.json", reports[-1])
            print(describe_report(reports[-1]))
            scored = write_scores(run, evaluation or run / "eval", reports[-1])
            print(f"written: {run / 'report.json'}, {page}" + (f", {scored}" if scored else ""))
        except (FileNotFoundError, KeyError) as error:
            print(f"no report.json yet: {error}\nwritten: {page}")
    if picture:
        try:
            write_picture(runs[0], evaluation or runs[0] / "eval", picture)
        except (FileNotFoundError, ValueError) as error:
            raise refused(error) from error
    if len(reports) > 1:
        print(compare(reports))


def watch(
    run: Annotated[Path, typer.Argument(help="the output folder of a training that runs")],
    seconds: Annotated[int, typer.Option(min=1, help="between two looks")] = 20,
) -> None:
    """Write RUN/report.html again and again while the run trains; a browser follows by itself.

    It ends when all stages are finished; Ctrl-C ends it earlier and harms nothing.

    Example: `omni-train watch runs/quickstart`
    """
    from .watch import watch as follow

    try:
        follow(run, run / "eval", seconds)
    except (OSError, KeyError, ValueError) as error:
        raise refused(error) from error
    except KeyboardInterrupt:
        print("the last page stays; run it again to go on")
