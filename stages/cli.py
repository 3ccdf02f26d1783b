"""omni-train: run a recipe, stage by stage, resuming wherever it stopped."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from data_shards.bench.result import Name, Small
from omni.serve.command import RunByDefault, announce
from omni.serve.export import export

from .sampling.command import sample

app = typer.Typer(
    cls=RunByDefault, no_args_is_help=True, add_completion=False, rich_markup_mode="markdown",
    help="Train a model through the stages of a recipe: `omni-train RECIPE [key=value ...]`.",
)  # fmt: skip

app.command()(sample)
app.command()(export)

Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="changes to the recipe, e.g. `stages.sft.steps=10 output=runs/other`"),
]


@app.command("run")
def train(
    recipe: Annotated[str, typer.Argument(help="a YAML file, or the name of a shipped recipe")],
    overrides: Overrides = None,
    stage: Annotated[
        str | None, typer.Option(help="run this stage alone; its parent must be finished")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="move an earlier run of the same output aside first")
    ] = False,
    redo: Annotated[
        str | None,
        typer.Option(help="move the results of this stage and of all later ones aside first"),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="print the resolved recipe and stop")
    ] = False,
) -> None:
    """Train a model through the stages of RECIPE.

    Run it again after an interruption and it goes on; finished stages are kept. SIGINT and
    SIGTERM write a checkpoint first. To tune a stage, `--redo` it: it starts again from its
    parent's checkpoint; what it had made is kept in OUTPUT.old0 and so on, as with `--fresh`.
    Several processes, with GPUs or without: `torchrun --nproc-per-node 2 -m stages.cli RECIPE`.

    Example: `omni-train quickstart stages.sft.steps=50 output=runs/short`
    """
    from omegaconf import OmegaConf

    from .recipe.read import load_recipe, read_places
    from .recipe.schema import RecipeError

    try:
        config, places = load_recipe(recipe, overrides), read_places(recipe, overrides)
    except RecipeError as error:
        _fail(error)
    if show:
        print(OmegaConf.to_yaml(OmegaConf.structured(config)))
        return
    announce(f"{recipe}: {', '.join(s.name for s in config.stages)} in {config.output}")
    _run(config, places, stage, fresh, redo)


def _run(config, places, stage: str | None, fresh: bool, redo: str | None) -> None:
    # large pages: a third off an align step on a CPU, whose time goes into fresh memory
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    from transformers.utils import logging

    logging.disable_progress_bar()
    from data_shards.read.quarantine import TooManyBad
    from omni.files.lock import exclusive
    from omni.load import CheckpointError
    from omni.weights import WeightsError

    from .engine.distribute import by_main, join
    from .trainable.patterns import PatternError
    from .training.chain import building_on, check_machine, refuse_mistakes, run_recipe

    names = [s.name for s in config.stages]
    for name in (stage, redo):
        if name and name not in names:
            _fail(f"no stage {name!r} in the recipe; stages: {', '.join(names)}")
    again = [redo] if redo and stage == redo else building_on(config, redo) if redo else []
    output = Path(config.output)
    try:
        accelerator = join(config.precision)
        check_machine(config, accelerator)
        with ExitStack() as held:

            def begin() -> None:
                with _writing(output):
                    held.enter_context(exclusive(output))
                refuse_mistakes(config, places, accelerator.num_processes, stage,
                                names if fresh else again)  # fmt: skip
                with _writing(output):
                    _prepare(output, config, fresh, again)

            by_main(accelerator, begin)
            run_recipe(config, accelerator, stage)
    except (CheckpointError, PatternError, WeightsError, TooManyBad, ValueError,
            FileNotFoundError, FloatingPointError, MemoryError) as error:  # fmt: skip
        _fail(error)


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(f"output {output}: cannot be written: {error}") from error


def _prepare(output: Path, config, fresh: bool, again: list[str]) -> None:
    """Make the run's folder, and the recipe in it, after what is to be made anew moved aside."""
    from omegaconf import OmegaConf

    from omni.files.atomic import write_text

    from .training.aside import move_run, move_stages

    if fresh and output.exists():
        print(f"the earlier run is in {move_run(output)}")
    elif again and output.exists():
        print(f"the earlier {', '.join(again)}: in {move_stages(output, again)}")
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "recipe.yaml", OmegaConf.to_yaml(OmegaConf.structured(config)))


@app.command()
def init(
    data: Annotated[list[Path], typer.Argument(help="folders of shards, as omni-shards makes")],
    start: Annotated[
        str | None,
        typer.Option("--from", help="the text LLM, or the omni checkpoint to go on from"),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(help="build an omni model, tune one with lora, or evaluate one "
                          "[default: what fits --from]"),
    ] = None,
    output: Annotated[str, typer.Option(help="folder of the run")] = "runs/mine",
) -> None:  # fmt: skip
    """Print a commented recipe for folders of shards; read it, change it, train it.

    Example: `omni-train init data/images data/spoken > mine.yaml`
    """
    from .recipe.init import choose_shape, commented, look_at
    from .recipe.schema import RecipeError

    try:
        chosen = choose_shape(shape, start)
        text = commented(chosen, [look_at(folder) for folder in data], start, output)
    except (RecipeError, ValueError, OSError) as error:
        _fail(error)
    print(text, end="")


@app.command()
def keys() -> None:
    """Print every key of a recipe with its type, default and meaning.

    Example: `omni-train keys`
    """
    announce("collecting the keys of a recipe", aside=True)
    from .recipe.reference import reference

    print(reference(), end="")


@app.command()
def doctor(
    recipe: Annotated[str, typer.Argument(help="a YAML file, or the name of a shipped recipe")],
    overrides: Overrides = None,
    stage: Annotated[str | None, typer.Option(help="the stage to examine [default: all]")] = None,
    samples: Annotated[int, typer.Option(min=2, help="how many to draw of each source")] = 8,
    meta: Annotated[
        bool, typer.Option("--meta", help="without weights, data or a hub: what a rank needs")
    ] = False,
    ranks: Annotated[int, typer.Option(min=1, help="with --meta: that share the work")] = 1,
) -> None:
    """Examine stages on their own data before they are trained; nothing is written.

    Prints parts, lengths, what is left out and why, one sample of each source with its labels,
    memory and time; a packed row must give the loss and gradients of its documents one by one.
    The last line is "go", or "no-go" with the reasons and exit code 1. With --meta: parameters,
    what trains, memory and operations of each rank, by arithmetic.

    Example: `omni-train doctor quickstart --stage omni`
    """
    if ranks > 1 and not meta:
        _fail("--ranks goes with --meta: without it, one process of this machine is examined")
    from .recipe.read import load_recipe, read_places
    from .recipe.schema import RecipeError

    try:
        config, places = load_recipe(recipe, overrides), read_places(recipe, overrides)
    except RecipeError as error:
        _fail(error)
    announce(f"examining {recipe}")
    from transformers.utils import logging

    from .doctor.meta import outline
    from .doctor.verdict import diagnose

    logging.disable_progress_bar()
    chosen = _chosen(config, stage)
    fits = (
        outline(config, places, chosen, ranks)
        if meta
        else diagnose(config, places, chosen, samples)
    )
    if not fits:
        raise typer.Exit(1)


@app.command()
def plan(
    recipe: Annotated[str, typer.Argument(help="a YAML file, or the name of a shipped recipe")],
    overrides: Overrides = None,
    stage: Annotated[str | None, typer.Option(help="the stage to plan [default: all]")] = None,
    ranks: Annotated[int, typer.Option(min=1, help="that share the packs of a step")] = 1,
    steps: Annotated[
        int | None, typer.Option(min=1, help="to plan [default: until all was drawn once]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one object of json")] = False,
) -> None:
    """Say what an epoch of each stage's data would be, without weights or decoding.

    Prints packs, padding, the share of each source as asked and as it comes, the balance of the
    ranks, the steps of an epoch, and what is truncated, split or left out and why.

    Example: `omni-train plan quickstart --stage sft --ranks 4`
    """
    from .recipe.read import load_recipe
    from .recipe.schema import RecipeError

    try:
        config = load_recipe(recipe, overrides)
    except RecipeError as error:
        _fail(error)
    chosen = _chosen(config, stage)
    announce(f"planning {recipe}", aside=as_json)
    from omni.load import CheckpointError
    from omni.weights import WeightsError

    from .doctor.planned import plan_stages

    try:
        plan_stages(config, chosen, ranks, steps, as_json)
    except (CheckpointError, WeightsError, ValueError, OSError) as error:
        _fail(error)


def _chosen(config, stage: str | None) -> list:
    """Return the stage of that name, or all."""
    chosen = [s for s in config.stages if stage in (None, s.name)]
    if not chosen:
        names = ", ".join(s.name for s in config.stages)
        _fail(f"no stage {stage!r} in the recipe; stages: {names}")
    return chosen


@app.command()
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

    from .report.page import write_page
    from .report.picture import write_picture
    from .report.summary import build_report, compare, describe_report, write_scores

    reports = []
    for run in runs:
        try:
            page = write_page(run, evaluation or run / "eval")
        except (OSError, KeyError, ValueError) as error:
            _fail(error)
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
            _fail(error)
    if len(reports) > 1:
        print(compare(reports))


@app.command()
def watch(
    run: Annotated[Path, typer.Argument(help="the output folder of a training that runs")],
    seconds: Annotated[int, typer.Option(min=1, help="between two looks")] = 20,
) -> None:
    """Write RUN/report.html again and again while the run trains; a browser follows by itself.

    It ends when all stages are finished; Ctrl-C ends it earlier and harms nothing.

    Example: `omni-train watch runs/quickstart`
    """
    from .report.watch import watch as follow

    try:
        follow(run, run / "eval", seconds)
    except (OSError, KeyError, ValueError) as error:
        _fail(error)
    except KeyboardInterrupt:
        print("the last page stays; run it again to go on")


@app.command()
def bench(
    name: Name = "",
    small: Small = False,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="of a bench of learning: how often it is run [1]")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="a bench of learning works here and goes on with what is finished here"),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="of generalpoints: with pictures and sounds too")
    ] = False,
) -> None:
    """Measure on this machine what the training engine promises; without NAME, list the benches.

    Prints a table and, as its last line, one object of json: "ok" is true if the promise holds,
    and so is the exit status 0. A and B of a comparison take turns within the run.

    Example: `omni-train bench throughput`
    """
    from data_shards.bench.result import run_named

    from .bench import BENCHES

    given = ({} if seeds is None else {"seeds": seeds}) | ({"all": True} if every else {})
    raise typer.Exit(run_named("stages.bench", BENCHES, name, small, folder, **given))


def _fail(error: object) -> None:
    print(f"error: {error}", file=sys.stderr)
    raise typer.Exit(2)


if __name__ == "__main__":
    app()
