"""The omni-eval command."""

import resource
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from data_shards.bench.result import Name, Small
from omni.command import RunByDefault

from .table_commands import compare, contamination, table

FEATURE_CACHE_MB = 500  # of images and sounds on a CPU

app = typer.Typer(
    cls=RunByDefault, no_args_is_help=True, add_completion=False, rich_markup_mode="markdown",
    help="Measure checkpoints: `omni-eval CHECKPOINT --suite mini`.",
)  # fmt: skip


@app.command("run")
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="Folder that a stage saved.")],
    suite: Annotated[str, typer.Option(help="Which rows to run; there is: mini.")] = "mini",
    data: Annotated[
        Path, typer.Option(help="Folder of shard folders; only heldout-*.tar are read.")
    ] = Path("data"),
    out: Annotated[Path, typer.Option(help="Where results go; a killed run goes on here.")] = Path(
        "runs/eval"
    ),
    rows: Annotated[str, typer.Option(help="Only these rows, comma separated.")] = "",
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many questions a row; for a quick look.")
    ] = None,
    controls: Annotated[
        bool, typer.Option(help="Also ask blind and with shuffled images and sounds.")
    ] = True,
    parent: Annotated[
        str | None,
        typer.Option(
            help="The text LLM that training began with, wheel:NAME, hub:ORG/NAME or a folder: "
            "measures how far its text answers drifted."
        ),
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Most conversations in a batch.")] = 16,
    token_budget: Annotated[int, typer.Option(min=1, help="Most tokens in a batch.")] = 4096,
) -> None:
    """Measure a checkpoint on held-out data and print a table.

    Every row comes with the number of questions, a 95 % interval, what guessing gives, and
    controls: the same model **blind** (image removed) or with **shuffled** images or sounds. A
    score that its control reaches as well was not earned by looking or listening.

    `mini-…` rows: lmms-eval's official task code on small files in the public schemas. The others
    (`category`, `spoken_word`, `spoken_question`, `human_speech`) are ours, with open answers.

    Example: `omni-eval runs/quickstart/sft --data data --out runs/quickstart/eval`

    OUT holds report.html (categories and wrong answers to look at), rows.json, table.md, table.txt
    and answers.jsonl (every question, expected and given answer). Finished rows are reused only
    for the same weights and the same held-out data.
    """
    from rich.console import Console

    from omni.load import CheckpointError
    from omni.weights import WeightsError

    console = Console(file=sys.stdout)  # this very stream: lmms-eval's chatter is diverted later
    try:
        result = _run(
            console, checkpoint, suite, data, out, rows=[r for r in rows.split(",") if r],
            limit=limit, controls=controls, parent=parent, max_batch=max_batch,
            token_budget=token_budget,
        )  # fmt: skip
    except (ValueError, LookupError, OSError, CheckpointError, WeightsError) as error:
        console.print(f"[red]error:[/red] {error}", soft_wrap=True)
        raise typer.Exit(2) from error
    from .grid import show
    from .table import grid

    show(grid(result), console)
    console.print(f"written: {out}/report.html, rows.json, table.md, table.txt, answers.jsonl")


@app.command()
def bench(name: Name = "", small: Small = False) -> None:
    """Measure on this machine what the evaluation promises; without NAME, list the benches.

    Prints a table and, as its last line, one object of json: "ok" is true if the promise holds,
    and so is the exit status 0.

    Example: `omni-eval bench oracle`
    """
    from data_shards.bench.result import run_named

    from .bench import BENCHES

    raise typer.Exit(run_named("eval.bench", BENCHES, name, small))


app.command()(table)
app.command()(compare)
app.command()(contamination)


def _run(
    console: Any,
    checkpoint: Path,
    suite: str,
    data: Path,
    out: Path,
    *,
    parent: str | None,
    rows: list[str],
    **options: Any,
) -> dict[str, Any]:
    from omni.feature_cache import FeatureCache
    from omni.load import check_checkpoint, load
    from omni.lock import exclusive
    from omni.weights import resolve

    from .heldout import refuse_other_split
    from .run import choose, run_suite

    choose(suite, rows)  # a typo should not cost the time to load a model
    check_checkpoint(checkpoint)
    bare = resolve(parent).folder if parent else None  # nor should a wrong name cost an evaluation
    with console.status("loading the model"):
        import torch

        model, processor = load(checkpoint)
        refuse_other_split(model.config.parts, data)
        if torch.cuda.is_available():
            model.to("cuda")  # type: ignore[arg-type]
        else:  # every medium is shown under several conditions
            model.feature_cache = FeatureCache(FEATURE_CACHE_MB << 20)
    with exclusive(out), AnswerProgress(console) as progress:
        result = run_suite(
            model, processor, suite, data, out, rows=rows,
            progress=progress.answered, on_condition=progress.condition, **options,
        )  # fmt: skip
    if bare is not None:
        result["figures"]["text_drift"] = _drift(model, processor, bare)
        console.print(
            f"text drift from {parent}: {result['figures']['text_drift']:.4f} nats a token"
        )
    from .example import worked_example
    from .own import MissingDataError

    try:
        result["example"] = worked_example(model, processor, data, out)
    except MissingDataError:
        result["example"] = None  # there is no spoken question to show
    result["peak_rss_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    _rewrite(result, out)
    return result


def _drift(model: Any, processor: Any, folder: Path) -> float:
    from transformers import AutoModelForCausalLM

    from .drift import text_drift

    bare = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").to(model.device)
    return text_drift(model, bare, processor)


def _rewrite(result: dict[str, Any], out: Path) -> None:
    import json

    from .store import write_atomic

    write_atomic(out / "rows.json", json.dumps(result, indent=1, ensure_ascii=False))


class AnswerProgress:
    """A progress line: which row, under which condition, how many answers, how fast."""

    def __init__(self, console: Any) -> None:
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TextColumn("{task.completed} answers"),
            TimeElapsedColumn(),
            console=console,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.task = self.bar.add_task("preparing", total=None)

    def __enter__(self) -> "AnswerProgress":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def condition(self, row: str, condition: str) -> None:
        self.bar.update(self.task, description=f"{row} ({condition.replace('_', ' ')})")

    def answered(self, count: int) -> None:
        self.bar.advance(self.task, count)


if __name__ == "__main__":
    app()
